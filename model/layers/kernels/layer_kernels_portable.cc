#include "model/layers/kernels/layer_kernels.h"
#include "model/layers/kernels/layer_kernels_impl.h"

namespace ounce::model {

extern constexpr LayerKernels kLayerKernelsPortable = {
    OUNCE_VEC::LayerNormRow, OUNCE_VEC::RmsNormRow, OUNCE_VEC::SoftCap,
    OUNCE_VEC::Attend,       OUNCE_VEC::Rotate,     OUNCE_VEC::RoundToBytes};

}  // namespace ounce::model
