// A picture's features: rows of pixels, the channels of a pixel side by side
// (NHWC), and around them a border of zeros that stands for the padding of
// convolutions.
//
//   pixel (y, x), channel c  =  data[(y * pitch + x) * channels + c]
//   pitch = width + border
//
// `border` rows lie above and below, and `border` columns after each row, which
// are also the columns before the next one: so the neighbours of any pixel, as
// far as `border` away, are at a constant distance from it.
//
// A matrix of rows is a map of height 1 without border.
#ifndef OUNCE_QUANT_FEATURE_MAP_H_
#define OUNCE_QUANT_FEATURE_MAP_H_

#include <cstddef>
#include <cstdint>

#include "quant/compute.h"
#include "quant/scratch.h"

namespace ounce::quant {

// Ownership: none; the memory is a scratch's.
struct FeatureMap {
  Compute type = Compute::kFloat32;  // elements: float, or uint16_t (bfloat16)
  void* data = nullptr;              // of pixel (0, 0)
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;
  int64_t border = 0;

  int64_t pitch() const { return width + border; }  // in pixels
  int64_t element_bytes() const { return type == Compute::kFloat32 ? 4 : 2; }
  std::byte* pixel(int64_t y, int64_t x) const {
    return static_cast<std::byte*>(data) +
           (y * pitch() + x) * channels * element_bytes();
  }
  float* floats(int64_t y, int64_t x) const {
    return reinterpret_cast<float*>(pixel(y, x));
  }
  uint16_t* bfloat16s(int64_t y, int64_t x) const {
    return reinterpret_cast<uint16_t*>(pixel(y, x));
  }
};

// A map whose border is zero and whose inside is not initialized. Kernels may
// read (not use) 64 elements past its end: that memory belongs to it, and is
// zero too.
FeatureMap TakeFeatureMap(Compute type, int64_t height, int64_t width,
                          int64_t channels, int64_t border, Scratch& scratch);

// What TakeFeatureMap takes.
int64_t FeatureMapBytes(Compute type, int64_t height, int64_t width,
                        int64_t channels, int64_t border);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_FEATURE_MAP_H_
