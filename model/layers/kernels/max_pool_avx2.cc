#include "model/layers/kernels/max_pool_impl.h"
#include "model/layers/kernels/max_pool_kernels.h"

namespace ounce::model {

extern constexpr MaxPoolKernels kMaxPoolKernelsAvx2 = {
    OUNCE_VEC::PoolRow<float>, OUNCE_VEC::PoolRow<int16_t>};

}  // namespace ounce::model
