#include "quant/quant_method.h"

#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "quant/pack.h"

namespace ounce::quant {
namespace {

// Codes of floats that nobody else keeps.
class StagedCodes final : public CodeRows {
 public:
  StagedCodes(std::unique_ptr<const FloatRows> floats,
              std::unique_ptr<const CodeRows> codes)
      : floats_(std::move(floats)), codes_(std::move(codes)) {}

  const std::string& name() const override { return codes_->name(); }
  int64_t rows() const override { return codes_->rows(); }
  int64_t cols() const override { return codes_->cols(); }
  const CodeFormat& format() const override { return codes_->format(); }
  absl::Span<const int32_t> order() const override { return codes_->order(); }
  absl::Status Read(int64_t first, int64_t count,
                    CodeBand& out) const override {
    return codes_->Read(first, count, out);
  }

 private:
  const std::unique_ptr<const FloatRows> floats_;
  const std::unique_ptr<const CodeRows> codes_;
};

}  // namespace

absl::StatusOr<PackedWeight> QuantMethod::Quantize(
    const FloatRows& weight, const ParamValues& params) const {
  ASSIGN_OR_RETURN(const std::unique_ptr<const CodeRows> codes,
                   Encode(weight, params));
  return Pack(*codes);
}

absl::StatusOr<std::unique_ptr<const CodeRows>> MethodSpec::Encode(
    const FloatRows& weight) const {
  if (stages.empty()) return method->Encode(weight, params);
  ASSIGN_OR_RETURN(std::unique_ptr<const FloatRows> floats,
                   ApplyStages(stages, weight));
  ASSIGN_OR_RETURN(std::unique_ptr<const CodeRows> codes,
                   method->Encode(*floats, params));
  return std::make_unique<const StagedCodes>(std::move(floats),
                                             std::move(codes));
}

std::optional<DType> MethodSpec::float_dtype() const {
  // A width that suits every method: of others, one may store floats instead.
  const auto format = method->Format(1, 256, DType::kF32, params);
  if (!format.ok()) return std::nullopt;
  switch (format->kind) {
    case CodeFormat::Kind::kFloat32:
      return DType::kF32;
    case CodeFormat::Kind::kFloat16:
      return DType::kF16;
    case CodeFormat::Kind::kBFloat16:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

bool MethodSpec::lossless_from(DType dtype) const {
  const std::optional<DType> stored = float_dtype();
  if (!stored.has_value() || !stages.empty() || !IsFloat(dtype)) return false;
  return *stored == dtype || (*stored == DType::kF32 && dtype != DType::kF64);
}

std::string MethodSpec::ToString(std::string_view more) const {
  std::string text;
  for (const StageSpec& stage : stages) {
    StrAppend(&text, stage.ToString(), "+");
  }
  const std::string own = ParamsText(method->params(), params);
  StrAppend(&text, method->name(), own.empty() ? "" : ":", own);
  if (!more.empty()) StrAppend(&text, own.empty() ? ":" : ",", more);
  return text;
}

}  // namespace ounce::quant
