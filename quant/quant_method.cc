#include "quant/quant_method.h"

#include <string>

#include "absl/strings/numbers.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "quant/pack.h"

namespace ounce::quant {
namespace {

const std::string& TextOf(const ParamValues& params, std::string_view name) {
  const auto value = params.find(std::string(name));
  OUNCE_CHECK(value != params.end(), "the parameter was declared");
  return value->second;
}

}  // namespace

int64_t IntegerOf(const ParamValues& params, std::string_view name) {
  int64_t value = 0;
  OUNCE_CHECK(absl::SimpleAtoi(TextOf(params, name), &value),
              "an integer was checked");
  return value;
}

double NumberOf(const ParamValues& params, std::string_view name) {
  double value = 0;
  OUNCE_CHECK(absl::SimpleAtod(TextOf(params, name), &value),
              "a number was checked");
  return value;
}

bool BooleanOf(const ParamValues& params, std::string_view name) {
  return TextOf(params, name) == "true";
}

absl::StatusOr<PackedWeight> QuantMethod::Quantize(
    const FloatRows& weight, const ParamValues& params) const {
  ASSIGN_OR_RETURN(const std::unique_ptr<const CodeRows> codes,
                   Encode(weight, params));
  return Pack(*codes);
}

std::optional<DType> MethodSpec::float_dtype() const {
  const auto format = method->Format(1, 1, DType::kF32, params);
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

std::string MethodSpec::ToString() const {
  std::string text(method->name());
  char separator = ':';
  for (const ParamSpec& param : method->params()) {
    const std::string& value = TextOf(params, param.name);
    if (value == param.default_value) continue;
    StrAppend(&text, std::string(1, separator), param.name, "=", value);
    separator = ',';
  }
  return text;
}

}  // namespace ounce::quant
