// GGUF's IQ1, IQ2 and IQ3 types: eight weights (four, of IQ3) are one entry of
// a grid, beside signs, and a scale for each 16 or 32. Nobody makes them here:
// they want an importance matrix.
//
// A weight becomes a code of 3 or 4 bits, an index into the magnitudes with
// both signs, so that tiles take that and not a byte; values are ggml's to the
// bit.
//
// Source: ggml-org/ggml, src/ggml-common.h and ggml-quants.c.
#ifndef OUNCE_MODEL_CHECKPOINT_GGUF_GRIDS_H_
#define OUNCE_MODEL_CHECKPOINT_GGUF_GRIDS_H_

#include <cstdint>

#include "model/checkpoint/gguf_blocks.h"
#include "quant/codes.h"

namespace ounce::model {

void UnpackIq2Xxs(const uint8_t* block, const GgufPlaces& to);
void UnpackIq2Xs(const uint8_t* block, const GgufPlaces& to);
void UnpackIq2S(const uint8_t* block, const GgufPlaces& to);
void UnpackIq3Xxs(const uint8_t* block, const GgufPlaces& to);
void UnpackIq3S(const uint8_t* block, const GgufPlaces& to);
void UnpackIq1S(const uint8_t* block, const GgufPlaces& to);
void UnpackIq1M(const uint8_t* block, const GgufPlaces& to);

// The formats of their codes: fields d, of 256 columns, and the scale of each
// `cols`.
quant::CodeFormat Iq2Format(std::string_view element, int64_t cols);
quant::CodeFormat Iq3XxsFormat();
quant::CodeFormat Iq3SFormat();
quant::CodeFormat Iq1Format(std::string_view element, int64_t cols);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_GGUF_GRIDS_H_
