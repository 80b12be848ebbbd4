#ifndef OUNCE_MODEL_MASK_BUFFERS_H_
#define OUNCE_MODEL_MASK_BUFFERS_H_

#include <cstdint>

namespace ounce::model {

// What older releases of transformers registered as buffers of a network, for
// its causal masks: get_memory_footprint() counted them. Nothing needs them.
struct MaskBuffers {
  int64_t bools = 0;   // a byte each
  int64_t floats = 0;  // in the model's dtype
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_MASK_BUFFERS_H_
