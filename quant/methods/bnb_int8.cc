// LLM.int8, as bitsandbytes computes it. A weight is rounded to float16 first;
// then, with SCB the largest magnitude of an output's row w,
//
//   q = round(w * (1 / SCB * 127)),  w ~ q * SCB / 127
//
// to nearest even; a row of zeros has zeros for codes and SCB. Products round x
// to 8 bits, but for a row's outliers (matmul.h).
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "quant/encode_rows.h"
#include "quant/quant_method.h"

namespace ounce::quant {
namespace {

constexpr std::string_view kDefaultThreshold = "6";
constexpr float kLargestFloat16 = 65504;

// As RoundTo(DType::kF16, value), but larger than that where it becomes
// infinite, and without branches, for loops over many.
inline float RoundToFloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  // To nearest even on the 13 bits that are cut off; of subnormals, below
  // 2^-14, what is below the last place of 0.5.
  const uint32_t rounded =
      (magnitude + 0xFFF + (magnitude >> 13 & 1)) & ~uint32_t{0x1FFF};
  const float small = (std::bit_cast<float>(magnitude) + 0.5f) - 0.5f;
  return std::bit_cast<float>(
      (bits & 0x80000000) |
      (magnitude < 0x38800000 ? std::bit_cast<uint32_t>(small) : rounded));
}

class BnbInt8Rows final : public EncodedRows {
 public:
  using EncodedRows::EncodedRows;

 private:
  absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                         CodeBand& out) const override {
    // Rounding keeps the order of numbers.
    const float largest = RoundToFloat16(LargestMagnitude(values, cols()));
    if (largest > kLargestFloat16) {
      int64_t col = 0;
      while (RoundToFloat16(std::abs(values[col])) < largest) ++col;
      return RefuseValue(weight(), row, col, values[col],
                         "does not fit float16 (largest 65504), which bnb-int8 "
                         "rounds weights to first; linear takes it");
    }
    out.fields[0].Set(row, largest);
    // Rounded twice, as torch divides a number by a tensor.
    const float factor = largest > 0 ? 1 / largest * 127 : 0.0f;
    for (int64_t col = 0; col < cols(); ++col) {
      codes[col] = static_cast<std::byte>(static_cast<int8_t>(
          RoundToInteger(RoundToFloat16(values[col]) * factor)));
    }
    return absl::OkStatus();
  }
};

class BnbInt8 final : public QuantMethod {
 public:
  std::string_view name() const override { return "bnb-int8"; }
  std::string_view summary() const override {
    return "LLM.int8 as in bitsandbytes: 8-bit integers with a scale per "
           "output channel, times activations in 8 bits but for outliers.";
  }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "threshold",
         .type = ParamSpec::Type::kNumber,
         .default_value = kDefaultThreshold,
         .lowest = 0,
         .highest = 65504,
         .help = "activations of this magnitude or more are multiplied as "
                 "floats, chosen for each row by itself; 0: none"},
    };
    return params;
  }

  absl::StatusOr<CodeFormat> Format(int64_t, int64_t, DType,
                                    const ParamValues& params) const override {
    const double threshold = NumberOf(params, "threshold");
    // 0 would mean that there are no outliers.
    constexpr float kLeast = std::numeric_limits<float>::denorm_min();
    return CodeFormat{
        .kind = CodeFormat::Kind::kSigned,
        .bits = 8,
        .element = "int8",
        .fields = {{.name = "SCB", .reach = Reach::Row()}},
        // The float32 nearest to 1 / 127, as there.
        .rule = {.scale = {.constant = 7.874015718698502e-3f, .times = 0}},
        .input_rounding = {.bits = 8,
                           .threshold =
                               threshold == 0
                                   ? 0
                                   : std::max(static_cast<float>(threshold),
                                              kLeast)},
        .constant_bytes = 1};  // weight_format
  }
  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight, const ParamValues& params) const override {
    ASSIGN_OR_RETURN(CodeFormat format, Format(weight.rows(), weight.cols(),
                                               weight.dtype(), params));
    return std::make_unique<const BnbInt8Rows>(weight, std::move(format));
  }
};

}  // namespace

const QuantMethod& BnbInt8Method() {
  static const BnbInt8 method;
  return method;
}

}  // namespace ounce::quant
