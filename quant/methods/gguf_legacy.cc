// GGUF's blocks of 32 weights with a scale, and perhaps a minimum, in float16:
//
//   q4_0, q5_0  m: the weight largest in magnitude; d = m / -8 or / -16
//               q = min(15 or 31, int(w / d + 8.5 or 16.5));  w ~ d (q - 8)
//   q4_1, q5_1  d = (max - min) / 15 or / 31;  m = min
//               q = min(15 or 31, int((w - m) / d + 0.5));    w ~ d q + m
//   q8_0        d = max|w| / 127;  q = round(w / d), half away from zero
//
// Codes are of the d and m before float16 rounds them. Where 1 / d is
// infinite, d is zero in float16, and so is every weight.
#include <cmath>

#include "quant/encode_rows.h"
#include "quant/gguf_method.h"

namespace ounce::quant {
namespace {

constexpr int kBlock = 32;

uint8_t Truncated(float code, float most) {
  code = code > 0 ? code : 0;
  return static_cast<uint8_t>(static_cast<int32_t>(code < most ? code : most));
}

template <int kBits>
void EncodeSymmetric(const float* values, int64_t cols, uint8_t* codes,
                     float* const* fields) {
  constexpr float kZero = 1 << (kBits - 1), kMost = (1 << kBits) - 1;
  for (int64_t col = 0; col < cols; col += kBlock) {
    const float* x = values + col;
    float largest = x[0];
    for (int i = 1; i < kBlock; ++i) {
      if (std::abs(x[i]) > std::abs(largest)) largest = x[i];
    }
    const float d = largest / -kZero;
    const float inverse = GgufInverse(d);
    fields[0][col / kBlock] = RoundTo(DType::kF16, d);
    for (int i = 0; i < kBlock; ++i) {
      codes[col + i] = Truncated(x[i] * inverse + (kZero + 0.5f), kMost);
    }
  }
}

template <int kBits>
void EncodeAffine(const float* values, int64_t cols, uint8_t* codes,
                  float* const* fields) {
  constexpr float kMost = (1 << kBits) - 1;
  for (int64_t col = 0; col < cols; col += kBlock) {
    const float* x = values + col;
    float min = x[0], max = x[0];
    for (int i = 1; i < kBlock; ++i) {
      min = x[i] < min ? x[i] : min;
      max = x[i] > max ? x[i] : max;
    }
    const float d = (max - min) / kMost;
    const float inverse = GgufInverse(d);
    fields[0][col / kBlock] = RoundTo(DType::kF16, d);
    fields[1][col / kBlock] = RoundTo(DType::kF16, min);
    for (int i = 0; i < kBlock; ++i) {
      codes[col + i] = Truncated((x[i] - min) * inverse + 0.5f, kMost);
    }
  }
}

void EncodeQ80(const float* values, int64_t cols, uint8_t* codes,
               float* const* fields) {
  for (int64_t col = 0; col < cols; col += kBlock) {
    const float* x = values + col;
    const float d = LargestMagnitude(x, kBlock) / 127;
    const float inverse = GgufInverse(d);
    fields[0][col / kBlock] = RoundTo(DType::kF16, d);
    for (int i = 0; i < kBlock; ++i) {
      codes[col + i] = static_cast<uint8_t>(GgufRoundAway(x[i] * inverse));
    }
  }
}

constexpr CodeField kScale[] = {GgufFloat16("d", kBlock)};
constexpr CodeField kScaleAndMinimum[] = {GgufFloat16("d", kBlock),
                                          GgufFloat16("m", kBlock)};

constexpr GgufType kQ40 = {
    .name = "gguf-q4_0",
    .summary = "llama.cpp's Q4_0: 4 bits, and a scale for each 32 columns",
    .block = kBlock,
    .instead = Float16Method,
    .encode = EncodeSymmetric<4>,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 4,
    .fields = kScale,
    .rule = GgufScaled(8)};
constexpr GgufType kQ50 = {
    .name = "gguf-q5_0",
    .summary = "llama.cpp's Q5_0: 5 bits, and a scale for each 32 columns",
    .block = kBlock,
    .instead = Float16Method,
    .encode = EncodeSymmetric<5>,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 5,
    .fields = kScale,
    .rule = GgufScaled(16)};
constexpr GgufType kQ80 = {
    .name = "gguf-q8_0",
    .summary = "llama.cpp's Q8_0: 8 bits, and a scale for each 32 columns",
    .block = kBlock,
    .instead = Float16Method,
    .encode = EncodeQ80,
    .kind = CodeFormat::Kind::kSigned,
    .bits = 8,
    .fields = kScale,
    .rule = GgufScaled(0)};
constexpr GgufType kQ41 = {
    .name = "gguf-q4_1",
    .summary =
        "llama.cpp's Q4_1: 4 bits, and a scale and a minimum for each "
        "32 columns",
    .block = kBlock,
    .instead = Float16Method,
    .encode = EncodeAffine<4>,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 4,
    .fields = kScaleAndMinimum,
    .rule = {.scale = {.field = 0}, .minimum = {.field = 1}}};
constexpr GgufType kQ51 = {
    .name = "gguf-q5_1",
    .summary =
        "llama.cpp's Q5_1: 5 bits, and a scale and a minimum for each "
        "32 columns",
    .block = kBlock,
    .instead = Float16Method,
    .encode = EncodeAffine<5>,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 5,
    .fields = kScaleAndMinimum,
    .rule = {.scale = {.field = 0}, .minimum = {.field = 1}}};

}  // namespace

const QuantMethod& GgufQ40Method() { return GgufMethodOf<kQ40>(); }
const QuantMethod& GgufQ41Method() { return GgufMethodOf<kQ41>(); }
const QuantMethod& GgufQ50Method() { return GgufMethodOf<kQ50>(); }
const QuantMethod& GgufQ51Method() { return GgufMethodOf<kQ51>(); }
const QuantMethod& GgufQ80Method() { return GgufMethodOf<kQ80>(); }

}  // namespace ounce::quant
