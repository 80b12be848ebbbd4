// How the KV cache holds keys and values (kv_cache.h).
//
// Included by files that are compiled for one instruction set: no functions.
#ifndef OUNCE_MODEL_LAYERS_KV_TYPE_H_
#define OUNCE_MODEL_LAYERS_KV_TYPE_H_

#include <cstdint>

namespace ounce::model {

enum class KvType : uint8_t {
  kFloat32,
  kBFloat16,  // rounded to nearest even
  // round(x / scale), with scale = max |x| / 127 of each key and each value.
  // Keys are rotated before, and queries alike (layer_kernels.h: rotate), which
  // spreads the few large elements that keys have.
  kInt8
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_KV_TYPE_H_
