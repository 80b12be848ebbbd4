// Bilinear resize with antialias, equal to Pillow's to the bit.
//
// Two passes over the separable triangle filter, each rounded to 8 bits: first
// along rows, then along columns; the other way round where the picture loses
// rows, and more than twice as many as columns. Output position i of n from m
// samples:
//   scale = m / n, support = max(scale, 1), center = (i + 1/2) * scale
//   weight(j) = max(0, 1 - |j - center + 1/2| / max(scale, 1)), normalized
// and rounded to 22 fractional bits (half away from zero); a sum begins with
// one half and is clamped to [0, 255]. A pass that would keep its length is
// left out.
//
// Source: Pillow 13.0, src/libImaging/Resample.c (Image.resize with BILINEAR).
// Up to 12.3 it always filtered rows first; a picture that keeps its ratio is
// the same in both unless it shrinks and is more than twice as high as wide.
#ifndef OUNCE_IMAGE_RESIZE_H_
#define OUNCE_IMAGE_RESIZE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/cpu.h"
#include "image/rgb8.h"

namespace ounce::image {

// A new picture of `height` x `width`. On the calling thread alone.
// Error: none; every `isa` gives the same bytes.
// Errors: kInvalidArgument for a size that Rgb8::Create refuses or an empty
//   picture; kResourceExhausted when the system has no memory.
absl::StatusOr<Rgb8> ResizeBilinear(const Rgb8& picture, int64_t height,
                                    int64_t width, Isa isa = BestIsa());

// The most memory that ResizeBilinear holds besides its input, the result
// included.
int64_t ResizeBytes(int64_t from_height, int64_t from_width, int64_t to_height,
                    int64_t to_width);

}  // namespace ounce::image

#endif  // OUNCE_IMAGE_RESIZE_H_
