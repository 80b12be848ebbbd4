// Codes that say little more than a sign, times the mean magnitude of the
// weights that share a scale (BitNet's "absmean"):
//
//   ternary  w ~ d * round(w / mean|w|), clamped to -1, 0, 1, in the container
//            of TQ2_0: 2 bits, the code is the value and 1. (gguf-tq2_0 takes
//            the largest magnitude for d, which suits weights that have three
//            values already.) The mean counts as 1e-5 at least.
//   binary   w ~ d * (w < 0 ? -1 : 1), 1 bit: the scale that fits these signs
//            best is the mean
//
// Rounding is to nearest even, of w times the reciprocal in float32; means are
// summed in float64; d, their float16, enters only what codes are worth.
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "quant/encode_rows.h"
#include "quant/granularity.h"
#include "quant/quant_method.h"

namespace ounce::quant {
namespace {

struct Ternary {
  static constexpr std::string_view kName = "ternary";
  static constexpr std::string_view kSummary =
      "Minus one, zero or one times the mean magnitude of a group, 2 bits "
      "each: for weights that were trained so.";
  static constexpr std::string_view kGroup = "256";
  static constexpr int kBits = 2;
  static constexpr float kLeastMean = 1e-5f;

  static void Declare(CodeFormat& format) { format.rule.zero.constant = 1; }
  static int CodeOf(float w, float reciprocal) {
    const float near = std::clamp(w * reciprocal, -1.5f, 1.5f);
    return static_cast<int>(std::clamp(RoundToInteger(near), -1.0f, 1.0f)) + 1;
  }
};

struct Binary {
  static constexpr std::string_view kName = "binary";
  static constexpr std::string_view kSummary =
      "Signs times the mean magnitude of a group: 1 bit each. Ruins what was "
      "not trained so.";
  static constexpr std::string_view kGroup = "128";
  static constexpr int kBits = 1;
  static constexpr float kLeastMean = 0;
  static constexpr float kLevels[] = {-1, 1};

  static void Declare(CodeFormat& format) { format.tables = kLevels; }
  static int CodeOf(float w, float) { return w < 0 ? 0 : 1; }
};

double SumOfMagnitudes(const float* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::abs(values[i]);
  return sum;
}

template <class Code>
class AbsmeanRows final : public EncodedRows {
 public:
  // `of_all`: the mean, if all weights share it.
  AbsmeanRows(const FloatRows& weight, CodeFormat format,
              std::optional<float> of_all)
      : EncodedRows(weight, std::move(format)), of_all_(of_all) {}

 private:
  absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                         CodeBand& out) const override {
    const Reach& reach = format().fields[0].reach;
    for (int64_t col = 0; col < cols();) {
      const int64_t end = reach.EndOf(row, col, cols());
      const float mean = std::max(
          Code::kLeastMean,
          of_all_.has_value()
              ? *of_all_
              : static_cast<float>(SumOfMagnitudes(values + col, end - col) /
                                   static_cast<double>(end - col)));
      const float d = RoundTo(DType::kF16, mean);
      if (!std::isfinite(d)) {
        return RefuseValue(
            weight(), row, col, mean,
            "is a mean that does not fit a float16 scale (largest "
            "65504); keep the tensor or choose linear for it");
      }
      out.fields[0].Set(reach.IndexOf(row, col, cols()), d);
      const float reciprocal = 1 / mean;
      for (; col < end; ++col) {
        codes[col] =
            static_cast<std::byte>(Code::CodeOf(values[col], reciprocal));
      }
    }
    return absl::OkStatus();
  }

  const std::optional<float> of_all_;
};

template <class Code>
class Absmean final : public QuantMethod {
 public:
  std::string_view name() const override { return Code::kName; }
  std::string_view summary() const override { return Code::kSummary; }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {GranularityParam("group"),
                                                  GroupParam(Code::kGroup)};
    return params;
  }

  absl::StatusOr<CodeFormat> Format(int64_t, int64_t, DType,
                                    const ParamValues& params) const override {
    ASSIGN_OR_RETURN(const Reach reach, ReachOf(*this, params));
    CodeFormat format = {.kind = CodeFormat::Kind::kUnsigned,
                         .bits = Code::kBits,
                         .element = Code::kName,
                         .fields = {{.name = "d",
                                     .type = CodeField::Type::kFloat16,
                                     .bits = 16,
                                     .reach = reach}},
                         .rule = {.scale = {.field = 0}}};
    Code::Declare(format);
    return format;
  }

  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight, const ParamValues& params) const override {
    ASSIGN_OR_RETURN(CodeFormat format, Format(weight.rows(), weight.cols(),
                                               weight.dtype(), params));
    std::optional<float> of_all;
    if (params.at("granularity") == "tensor") {
      double sum = 0;
      RETURN_IF_ERROR(ForEachRow(weight, [&](int64_t, const float* values) {
        sum += SumOfMagnitudes(values, weight.cols());
      }));
      of_all = static_cast<float>(
          sum / static_cast<double>(weight.rows() * weight.cols()));
    }
    return std::make_unique<const AbsmeanRows<Code>>(weight, std::move(format),
                                                     of_all);
  }
};

}  // namespace

const QuantMethod& TernaryMethod() {
  static const Absmean<Ternary> method;
  return method;
}

const QuantMethod& BinaryMethod() {
  static const Absmean<Binary> method;
  return method;
}

}  // namespace ounce::quant
