// Parameters in the text of a spec: `key=value` with commas between. Whoever
// takes some declares them: help texts, checking and ListMethods come from
// that one place.
#ifndef OUNCE_QUANT_PARAMS_H_
#define OUNCE_QUANT_PARAMS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace ounce::quant {

struct ParamSpec {
  std::string_view name;  // "bits"
  enum class Type {
    kInteger,
    kNumber,   // finite
    kBoolean,  // "true" or "false"
    kChoice
  } type = Type::kInteger;
  std::string_view default_value;  // in text form
  // kInteger: [min, max]. kNumber: [lowest, highest]. kChoice: the values
  // allowed.
  int64_t min = 0;
  int64_t max = 0;
  double lowest = 0;
  double highest = 0;
  std::vector<std::string_view> choices = {};
  std::string_view help;
};

// Every declared parameter with its value in text form, checked. Equal values
// are equal texts: of numbers the shortest that reads back as the same double.
using ParamValues = absl::flat_hash_map<std::string, std::string>;

// A value by its parameter's type. Requires that it was declared and checked.
int64_t IntegerOf(const ParamValues& params, std::string_view name);
double NumberOf(const ParamValues& params, std::string_view name);
bool BooleanOf(const ParamValues& params, std::string_view name);

// What stands between the commas.
std::vector<std::string_view> Settings(std::string_view text);

// Of `settings`, each a `key=value`; what is left out gets its default.
// `owner` is whose they are, for messages: "method 'linear'".
// Errors: kInvalidArgument that says what is wrong and what is possible: an
// unknown parameter (lists the known ones), a value out of range, a parameter
// given twice or without a value.
absl::StatusOr<ParamValues> ParseParams(
    std::string_view owner, absl::Span<const ParamSpec> declared,
    const std::vector<std::string_view>& settings);

// The other way round: those that differ from their defaults, in declared
// order. Empty: none.
std::string ParamsText(absl::Span<const ParamSpec> declared,
                       const ParamValues& values);

// "bits (an integer from 2 to 8; default 8), mode (one of ...)".
std::string KnownParams(absl::Span<const ParamSpec> declared);

// What is wrong comes from the wire, so messages quote only so much of it.
std::string QuotedPart(std::string_view text);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_PARAMS_H_
