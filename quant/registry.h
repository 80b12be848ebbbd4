// The lists of methods and stages, and specs by text.
#ifndef OUNCE_QUANT_REGISTRY_H_
#define OUNCE_QUANT_REGISTRY_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "quant/quant_method.h"
#include "quant/weight_stage.h"

namespace ounce::quant {

// In the order of methods.def.
absl::Span<const QuantMethod* const> AllMethods();

// In the order of stages.def.
absl::Span<const WeightStage* const> AllStages();

// At most so many in a spec.
inline constexpr size_t kMaxStages = 8;

// What stands between the '+' of a spec, its stages and last its method. (A '+'
// that is part of a number has no letter behind it.)
std::vector<std::string_view> PartsOfSpec(std::string_view text);

// Parses STAGE+...+METHOD, of which each is `name` or `name:key=value,...`;
// parameters left out get their default. `methods` are those that are known.
// Errors: kInvalidArgument that says what is wrong and what is possible: an
// unknown method, stage or parameter (lists the known ones), too many stages, a
// value out of range, a parameter given twice or without a value, whitespace.
absl::StatusOr<MethodSpec> ParseMethodSpec(
    std::string_view text,
    absl::Span<const QuantMethod* const> methods = AllMethods());

// The float method that keeps `dtype` as it is: kF32 (and kF64) -> float32,
// kF16 -> float16, kBF16 -> bfloat16. Requires IsFloat(dtype).
MethodSpec FloatMethodFor(DType dtype);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_REGISTRY_H_
