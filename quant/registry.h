// The list of methods, and specs by text.
#ifndef OUNCE_QUANT_REGISTRY_H_
#define OUNCE_QUANT_REGISTRY_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "quant/quant_method.h"

namespace ounce::quant {

// In the order of methods.def.
absl::Span<const QuantMethod* const> AllMethods();

// Parses `name` or `name:key=value,...`; parameters left out get their default.
// `methods` are those that are known.
// Errors: kInvalidArgument that says what is wrong and what is possible: an
// unknown method or parameter (lists the known ones), a value out of range, a
// parameter given twice or without a value, whitespace.
absl::StatusOr<MethodSpec> ParseMethodSpec(
    std::string_view text,
    absl::Span<const QuantMethod* const> methods = AllMethods());

// The float method that keeps `dtype` as it is: kF32 (and kF64) -> float32,
// kF16 -> float16, kBF16 -> bfloat16. Requires IsFloat(dtype).
MethodSpec FloatMethodFor(DType dtype);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_REGISTRY_H_
