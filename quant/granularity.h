// What of a matrix shares a scale: the parameters `granularity` and `group`,
// which several methods have in common.
#ifndef OUNCE_QUANT_GRANULARITY_H_
#define OUNCE_QUANT_GRANULARITY_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "quant/codes.h"
#include "quant/quant_method.h"

namespace ounce::quant {

// "tensor", "channel" or "group".
ParamSpec GranularityParam(std::string_view default_value);
// Columns, -1 for whole rows.
ParamSpec GroupParam(std::string_view default_value);

// Of a method that declares `group`, and perhaps `granularity`.
// Errors: kInvalidArgument for a group that is no multiple of 16, or stands
// beside a granularity that has none.
absl::StatusOr<Reach> ReachOf(const QuantMethod& method,
                              const ParamValues& params);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_GRANULARITY_H_
