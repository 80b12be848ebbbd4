#include "model/layers/kernels/layer_kernels.h"

#include "base/cpu.h"
#include "model/layers/kv_cache.h"

namespace ounce::model {

static_assert(kAttentionBlockTokens == kKvBlockTokens);

const LayerKernels& LayerKernelsFor(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return kLayerKernelsAvx512;
  if (isa >= Isa::kAvx2) return kLayerKernelsAvx2;
#endif
  return kLayerKernelsPortable;
}

}  // namespace ounce::model
