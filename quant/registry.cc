#include "quant/registry.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {

#define QUANT_METHOD(function, name) const QuantMethod& function();
#include "quant/methods.def"
#undef QUANT_METHOD

namespace {

std::string KnownMethods(absl::Span<const QuantMethod* const> methods) {
  return StrCat("known methods are ",
                absl::StrJoin(methods, ", ",
                              [](std::string* out, const QuantMethod* method) {
                                StrAppend(out, method->name());
                              }));
}

}  // namespace

absl::Span<const QuantMethod* const> AllMethods() {
  static const QuantMethod* const kMethods[] = {
#define QUANT_METHOD(function, name) &function(),
#include "quant/methods.def"
#undef QUANT_METHOD
  };
  return kMethods;
}

absl::StatusOr<MethodSpec> ParseMethodSpec(
    std::string_view text, absl::Span<const QuantMethod* const> methods) {
  if (std::any_of(text.begin(), text.end(), absl::ascii_isspace)) {
    return absl::InvalidArgumentError(StrCat("quantization method ",
                                             QuotedPart(text),
                                             " must be without whitespace"));
  }
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  for (const QuantMethod* method : methods) {
    if (method->name() != name) continue;
    std::vector<std::string_view> settings;
    if (colon != std::string_view::npos) {
      settings = Settings(text.substr(colon + 1));
    }
    ASSIGN_OR_RETURN(
        ParamValues params,
        ParseParams(StrCat("method '", name, "'"), method->params(), settings));
    return MethodSpec{method, std::move(params)};
  }
  return absl::InvalidArgumentError(StrCat("unknown quantization method ",
                                           QuotedPart(name), "; ",
                                           KnownMethods(methods)));
}

MethodSpec FloatMethodFor(DType dtype) {
  OUNCE_CHECK(IsFloat(dtype), "only float elements have a float method");
  const std::string_view name =
      dtype == DType::kF64 ? Name(DType::kF32) : Name(dtype);
  const auto spec = ParseMethodSpec(name);
  OUNCE_CHECK(spec.ok(), "methods.def lists the float methods");
  return *spec;
}

}  // namespace ounce::quant
