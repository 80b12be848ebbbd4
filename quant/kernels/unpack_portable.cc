#include <cstdint>

#include "quant/dtype.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

template <float (*kConvert)(uint16_t)>
const void* Unpack(const std::byte* packed, void* scratch) {
  const auto* from = reinterpret_cast<const uint16_t*>(packed);
  auto* to = static_cast<float*>(scratch);
  for (int col = 0; col < 64; ++col) {
    for (int row = 0; row < 16; ++row) {
      to[col * 16 + row] = kConvert(from[col / 2 * 32 + row * 2 + col % 2]);
    }
  }
  return scratch;
}

}  // namespace

const void* UnpackBFloat16Portable(const std::byte* packed, void* scratch) {
  return Unpack<BFloat16ToFloat>(packed, scratch);
}
const void* UnpackFloat16Portable(const std::byte* packed, void* scratch) {
  return Unpack<HalfToFloat>(packed, scratch);
}

const void* UnpackNibblesPortable(const std::byte* packed, void* scratch) {
  const auto* from = reinterpret_cast<const uint8_t*>(packed);
  auto* to = static_cast<uint8_t*>(scratch);
  for (int pair = 0; pair < 8; ++pair, from += 64, to += 128) {
    for (int i = 0; i < 64; ++i) {
      to[i] = from[i] & 15;
      to[64 + i] = from[i] >> 4;
    }
  }
  return scratch;
}

}  // namespace ounce::quant
