#include "quant/kernels/ks4_search_impl.h"

namespace ounce::quant {

float Ks4SearchAvx512(const float* x, int64_t cols, float* room,
                      uint8_t* scales, uint8_t* codes) {
  return vec::Ks4SearchOnce(x, cols, room, scales, codes);
}

}  // namespace ounce::quant
