// DETR's position embedding: sines and cosines of where a feature lies within
// its picture (Carion et al., 2020; DetrSinePositionEmbedding in transformers).
#ifndef OUNCE_MODEL_LAYERS_SINE_POSITION_H_
#define OUNCE_MODEL_LAYERS_SINE_POSITION_H_

#include <cstdint>

#include "quant/matmul.h"

namespace ounce::model {

// For a feature map of height x width without padding, width * y + x being the
// row of `out`:
//
//   out[.., :d]  from 2 pi (y + 1) / (height + 1e-6), out[.., d:] the same of x
//   where d = out.cols / 2, and of an angle a the elements 2i and 2i + 1 are
//   sin and cos of a / 10000^(2i / d)
//
// Each row and each column is reckoned once: 0.05 ms for 25 x 34, of some 100
// that DETR takes, so that nothing need be kept from picture to picture.
//
// Shapes: out [height * width, an even number, d even too].
// Numeric error: 1e-6 of transformers' (float32 sums there).
void SinePositions(int64_t height, int64_t width, const quant::Matrix& out);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_SINE_POSITION_H_
