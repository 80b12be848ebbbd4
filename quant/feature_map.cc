#include "quant/feature_map.h"

#include <cstring>

namespace ounce::quant {
namespace {

// What kernels may read past the last pixel.
constexpr int64_t kMarginElements = 64;

int64_t PixelBytes(Compute type, int64_t channels) {
  return FeatureMap{.type = type}.element_bytes() * channels;
}

int64_t AllocatedBytes(Compute type, int64_t height, int64_t width,
                       int64_t channels, int64_t border) {
  const int64_t pixels = border + (height + 2 * border) * (width + border);
  return pixels * PixelBytes(type, channels) +
         PixelBytes(type, kMarginElements);
}

}  // namespace

FeatureMap TakeFeatureMap(Compute type, int64_t height, int64_t width,
                          int64_t channels, int64_t border, Scratch& scratch) {
  const int64_t bytes = AllocatedBytes(type, height, width, channels, border);
  std::byte* const start = scratch.Take<std::byte>(bytes);
  const int64_t pixel_bytes = PixelBytes(type, channels);
  const int64_t pitch = width + border;
  FeatureMap map = {.type = type,
                    .data = start + border * (pitch + 1) * pixel_bytes,
                    .height = height,
                    .width = width,
                    .channels = channels,
                    .border = border};
  if (scratch.counting()) return map;
  std::memset(start, 0, map.pixel(0, 0) - start);
  for (int64_t y = 0; y + 1 < height; ++y) {
    std::memset(map.pixel(y, width), 0, border * pixel_bytes);
  }
  std::byte* const end = map.pixel(height - 1, width);
  std::memset(end, 0, start + bytes - end);
  return map;
}

int64_t FeatureMapBytes(Compute type, int64_t height, int64_t width,
                        int64_t channels, int64_t border) {
  const int64_t bytes = AllocatedBytes(type, height, width, channels, border);
  return (bytes + 63) / 64 * 64;  // as Scratch::Take rounds
}

}  // namespace ounce::quant
