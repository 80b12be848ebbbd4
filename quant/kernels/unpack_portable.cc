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

template <float (*kConvert)(uint16_t)>
void Row(const std::byte* packed, int row, void* out) {
  const auto* from = reinterpret_cast<const uint16_t*>(packed) + row * 2;
  auto* to = static_cast<float*>(out);
  for (int col = 0; col < 64; ++col) {
    to[col] = kConvert(from[col / 2 * 32 + col % 2]);
  }
}

}  // namespace

const void* UnpackBFloat16Portable(const std::byte* packed, void* scratch) {
  return Unpack<BFloat16ToFloat>(packed, scratch);
}
const void* UnpackFloat16Portable(const std::byte* packed, void* scratch) {
  return Unpack<HalfToFloat>(packed, scratch);
}
void RowOfBFloat16(const std::byte* packed, int row, void* out) {
  Row<BFloat16ToFloat>(packed, row, out);
}
void RowOfFloat16(const std::byte* packed, int row, void* out) {
  Row<HalfToFloat>(packed, row, out);
}

namespace {

// The code at a place in [16 groups of 4 cols][16 rows][4 cols].
template <int kBits>
uint8_t CodeAt(const std::byte* packed, int i) {
  int code = 0, at = 0;
  for (const int plane : {4, 2, 1}) {
    if ((kBits & plane) == 0) continue;
    // Of [group][64], groups beside each other in a byte's bits; of the last
    // plane, bits in order.
    const int groups = plane == 1 ? 1 : 8 / plane;
    const int byte = plane == 1 ? i / 8 : i / 64 / groups * 64 + i % 64;
    const int shift = plane == 1 ? i % 8 : i / 64 % groups * plane;
    const auto bits =
        static_cast<uint8_t>(packed[PlaneOffset(kBits, plane) + byte]);
    code |= (bits >> shift & ((1 << plane) - 1)) << at;
    at += plane;
  }
  return static_cast<uint8_t>(code);
}

}  // namespace

template <int kBits>
const void* UnpackPlanesPortable(const std::byte* packed, void* scratch) {
  auto* to = static_cast<uint8_t*>(scratch);
  for (int i = 0; i < 1024; ++i) to[i] = CodeAt<kBits>(packed, i);
  return scratch;
}

template <int kBits>
void RowOfPlanes(const std::byte* packed, int row, void* out) {
  auto* to = static_cast<uint8_t*>(out);
  for (int i = 0; i < 64; ++i) {
    to[i] = CodeAt<kBits>(packed, i / 4 * 64 + row * 4 + i % 4);
  }
}

template UnpackCodes UnpackPlanesPortable<1>;
template UnpackCodes UnpackPlanesPortable<2>;
template UnpackCodes UnpackPlanesPortable<3>;
template UnpackCodes UnpackPlanesPortable<4>;
template UnpackCodes UnpackPlanesPortable<5>;
template UnpackCodes UnpackPlanesPortable<6>;
template UnpackCodes UnpackPlanesPortable<7>;

template UnpackRow RowOfPlanes<1>;
template UnpackRow RowOfPlanes<2>;
template UnpackRow RowOfPlanes<3>;
template UnpackRow RowOfPlanes<4>;
template UnpackRow RowOfPlanes<5>;
template UnpackRow RowOfPlanes<6>;
template UnpackRow RowOfPlanes<7>;

}  // namespace ounce::quant
