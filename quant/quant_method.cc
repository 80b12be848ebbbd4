#include "quant/quant_method.h"

#include <string>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "quant/pack.h"

namespace ounce::quant {

absl::StatusOr<PackedWeight> QuantMethod::Quantize(
    const FloatRows& weight, const ParamValues& params) const {
  ASSIGN_OR_RETURN(const std::unique_ptr<const CodeRows> codes,
                   Encode(weight, params));
  return Pack(*codes);
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
  if (!stored.has_value() || !IsFloat(dtype)) return false;
  return *stored == dtype || (*stored == DType::kF32 && dtype != DType::kF64);
}

std::string MethodSpec::ToString(std::string_view more) const {
  std::string text(method->name());
  const std::string own = ParamsText(method->params(), params);
  StrAppend(&text, own.empty() ? "" : ":", own);
  if (!more.empty()) StrAppend(&text, own.empty() ? ":" : ",", more);
  return text;
}

}  // namespace ounce::quant
