// What the methods that are GGUF's block types share. Codes are those of ggml's
// own quantization without an importance matrix, to the bit: as PyPI's gguf
// package makes them where it can, as ggml's C code does where only that can.
// Where bits lie in a file is no matter of codes.
//
// Source: ggml-org/ggml, src/ggml-quants.c; for widths that blocks do not
// divide, ggml-org/llama.cpp, src/llama-quant.cpp.
#ifndef OUNCE_QUANT_GGUF_METHOD_H_
#define OUNCE_QUANT_GGUF_METHOD_H_

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/cpu.h"
#include "quant/codes.h"
#include "quant/kernels/gguf_search.h"
#include "quant/quant_method.h"

namespace ounce::quant {

// Codes [cols] of a row of whole blocks, and all values of the row's fields.
// Scales that are stored in float16 are rounded already; too large a one is
// infinite.
using GgufEncode = void(const float* values, int64_t cols, uint8_t* codes,
                        float* const* fields);

struct GgufType {
  std::string_view name;  // "gguf-q4_k"; after the hyphen, the element's label
  std::string_view summary;  // without a stop; the block and `instead` follow
  int64_t block;             // columns
  // What llama.cpp takes for widths that blocks do not divide. (For blocks of
  // 32 it has nothing; what it has last for others is float16.)
  const QuantMethod& (*instead)();
  GgufEncode* encode;
  // As in CodeFormat.
  CodeFormat::Kind kind;
  int bits;
  absl::Span<const CodeField> fields;
  RunRule rule;
  absl::Span<const float> tables = {};
};

class GgufMethod final : public QuantMethod {
 public:
  explicit GgufMethod(const GgufType& type);

  std::string_view name() const override { return type_.name; }
  std::string_view summary() const override { return summary_; }
  absl::StatusOr<CodeFormat> Format(int64_t rows, int64_t cols, DType dtype,
                                    const ParamValues& params) const override;
  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight, const ParamValues& params) const override;

 private:
  const GgufType& type_;
  const std::string summary_;
  const CodeFormat format_;
};

template <const GgufType& kType>
const QuantMethod& GgufMethodOf() {
  static const GgufMethod method(kType);
  return method;
}

constexpr CodeField GgufFloat16(std::string_view name, int64_t cols) {
  return {.name = name,
          .type = CodeField::Type::kFloat16,
          .bits = 16,
          .reach = Reach::Columns(cols)};
}
constexpr CodeField GgufInteger(std::string_view name, CodeField::Type type,
                                int bits, int64_t cols) {
  return {
      .name = name, .type = type, .bits = bits, .reach = Reach::Columns(cols)};
}

// d (q - zero), and d s (q - zero). (With -0 added a product of zero keeps its
// sign, as ggml's does.)
constexpr RunRule GgufScaled(float zero) {
  return {.scale = {.field = 0},
          .zero = {.constant = zero},
          .minimum = {.constant = -0.0f}};
}
constexpr RunRule GgufNested(float zero) {
  return {.scale = {.field = 1, .times = 0},
          .zero = {.constant = zero},
          .minimum = {.constant = -0.0f}};
}

// What ggml multiplies by. Where it would be infinite, d is zero in float16.
inline float GgufInverse(float d) {
  const float inverse = 1 / d;
  return std::isfinite(inverse) ? inverse : 0;
}

// The nearest integer, halves away from zero.
inline int32_t GgufRoundAway(float value) {
  const float magnitude = std::abs(value);
  const auto whole = static_cast<int32_t>(magnitude);
  const int32_t rounded =
      whole + (magnitude - static_cast<float>(whole) >= 0.5f ? 1 : 0);
  return value < 0 ? -rounded : rounded;
}

// Of values near scale * (code - zero) - minimum: the nearest codes, 0 to most.
void GgufNearest(const float* values, int64_t count, float scale, float minimum,
                 float zero, float most, uint8_t* codes);

const GgufSearches& GgufSearchesFor(Isa isa);

// What stands in for others.
const QuantMethod& Float16Method();
const QuantMethod& GgufQ40Method();
const QuantMethod& GgufQ50Method();
const QuantMethod& GgufQ51Method();
const QuantMethod& GgufQ80Method();
const QuantMethod& GgufIq4NlMethod();

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_GGUF_METHOD_H_
