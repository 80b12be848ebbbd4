#include "model/layers/kernels/dense_attention_impl.h"
#include "model/layers/kernels/dense_attention_kernels.h"

namespace ounce::model {

extern constexpr DenseAttentionKernels kDenseAttentionAvx2 = {
    OUNCE_VEC::PackHead, OUNCE_VEC::Attend};

}  // namespace ounce::model
