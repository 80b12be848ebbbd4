// Resize with antialias, equal to Pillow's to the bit.
//
// Two passes over a separable filter f, each rounded to 8 bits: first along
// rows, then along columns; the other way round where the picture loses rows,
// and more than twice as many as columns. Output position i of n from m
// samples:
//   scale = m / n, spread = max(scale, 1), center = (i + 1/2) * scale
//   weight(j) = f((j - center + 1/2) / spread), normalized
// (bilinear: f(x) = max(0, 1 - |x|)) and rounded to 22 fractional bits (half
// away from zero); a sum begins with one half and is clamped to [0, 255]. A
// pass that would keep its length is left out. Nearest takes the sample under
// the center of each output, without a filter.
//
// Source: Pillow 13.0, src/libImaging/Resample.c (Image.resize), and
// Geometry.c for nearest.
// Up to 12.3 it always filtered rows first; a picture that keeps its ratio is
// the same in both unless it shrinks and is more than twice as high as wide.
#ifndef OUNCE_IMAGE_RESIZE_H_
#define OUNCE_IMAGE_RESIZE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/cpu.h"
#include "image/rgb8.h"

namespace ounce::image {

// Pillow's numbers, which configs of image processors have.
enum class Resample {
  kNearest = 0,
  kLanczos = 1,
  kBilinear = 2,
  kBicubic = 3,
  kBox = 4,
  kHamming = 5,
};
inline constexpr int kNumResamples = 6;

// A new picture of `height` x `width`. On the calling thread alone.
// Error: none; every `isa` gives the same bytes.
// Errors: kInvalidArgument for a size that Rgb8::Create refuses or an empty
//   picture; kResourceExhausted when the system has no memory.
absl::StatusOr<Rgb8> Resize(const Rgb8& picture, int64_t height, int64_t width,
                            Resample resample = Resample::kBilinear,
                            Isa isa = BestIsa());

// The most memory that Resize holds besides its input, the result included.
int64_t ResizeBytes(int64_t from_height, int64_t from_width, int64_t to_height,
                    int64_t to_width, Resample resample = Resample::kBilinear);

}  // namespace ounce::image

#endif  // OUNCE_IMAGE_RESIZE_H_
