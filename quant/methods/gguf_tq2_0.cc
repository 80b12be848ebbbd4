// GGUF's three values, -d, 0 and d, in 2 bits:
//
//   d = max|w| of 256 weights;  q = round(w / d) + 1, half away from zero
//   w ~ d (q - 1)
//
// What was trained with three values comes back as it was; other weights are
// mostly zero then. Codes are of the d before float16 rounds it.
#include <cmath>

#include "quant/encode_rows.h"
#include "quant/gguf_method.h"

namespace ounce::quant {
namespace {

constexpr int kBlock = 256;

void EncodeTq20(const float* values, int64_t cols, uint8_t* codes,
                float* const* fields) {
  for (int64_t col = 0; col < cols; col += kBlock) {
    const float d = LargestMagnitude(values + col, kBlock);
    const float inverse = GgufInverse(d);
    fields[0][col / kBlock] = RoundTo(DType::kF16, d);
    for (int64_t i = col; i < col + kBlock; ++i) {
      codes[i] = static_cast<uint8_t>(GgufRoundAway(values[i] * inverse) + 1);
    }
  }
}

constexpr CodeField kFields[] = {GgufFloat16("d", kBlock)};

constexpr GgufType kTq20 = {
    .name = "gguf-tq2_0",
    .summary =
        "llama.cpp's TQ2_0: -1, 0 or 1 in 2 bits, and a scale for each "
        "256 columns; for weights trained so",
    .block = kBlock,
    .instead = GgufQ40Method,
    .encode = EncodeTq20,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 2,
    .fields = kFields,
    .rule = GgufScaled(1)};

}  // namespace

const QuantMethod& GgufTq20Method() { return GgufMethodOf<kTq20>(); }

}  // namespace ounce::quant
