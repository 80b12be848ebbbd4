// LLM.int8, as bitsandbytes computes it. A weight is rounded to float16 first;
// then, with SCB the largest magnitude of an output's row w,
//
//   q = round(w * (127 / SCB)),  w ~ q * SCB / 127
//
// to nearest even; a row of zeros has zeros for codes and SCB. Products round x
// to 8 bits, but for a row's outliers (matmul.h).
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "base/status_macros.h"
#include "quant/encode_rows.h"
#include "quant/quant_method.h"

namespace ounce::quant {
namespace {

constexpr std::string_view kDefaultThreshold = "6";

class BnbInt8Rows final : public EncodedRows {
 public:
  using EncodedRows::EncodedRows;

 private:
  absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                         CodeBand& out) const override {
    float largest = 0;
    for (int64_t col = 0; col < cols(); ++col) {
      largest = std::max(largest, std::abs(RoundTo(DType::kF16, values[col])));
      if (!std::isfinite(largest)) {
        return RefuseValue(
            weight(), row, col, values[col],
            "does not fit float16 (largest 65504), which bnb-int8 "
            "rounds weights to first; linear takes it");
      }
    }
    out.fields[0].values[row - out.fields[0].first] = largest;
    const float factor = largest > 0 ? 127.0f / largest : 0.0f;
    for (int64_t col = 0; col < cols(); ++col) {
      const float level = RoundTo(DType::kF16, values[col]) * factor;
      codes[col] =
          static_cast<std::byte>(static_cast<int8_t>(std::nearbyint(level)));
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
    return CodeFormat{
        .kind = CodeFormat::Kind::kSigned,
        .bits = 8,
        .element = "int8",
        .fields = {{.name = "SCB", .reach = Reach::Row()}},
        // The float32 nearest to 1 / 127, as there.
        .rule = {.scale = {.constant = 7.874015718698502e-3f, .times = 0}},
        .input_rounding = {
            .bits = 8,
            .threshold = static_cast<float>(NumberOf(params, "threshold"))}};
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
