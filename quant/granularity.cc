#include "quant/granularity.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "base/str_cat.h"

namespace ounce::quant {
namespace {

constexpr std::string_view kGranularity = "granularity";
constexpr std::string_view kGroup = "group";

bool IsDefault(const QuantMethod& method, const ParamValues& params,
               std::string_view name) {
  const auto spec =
      std::find_if(method.params().begin(), method.params().end(),
                   [&](const ParamSpec& param) { return param.name == name; });
  return params.at(std::string(name)) == spec->default_value;
}

}  // namespace

ParamSpec GranularityParam(std::string_view default_value) {
  return {.name = kGranularity,
          .type = ParamSpec::Type::kChoice,
          .default_value = default_value,
          .choices = {"tensor", "channel", "group"},
          .help =
              "what shares a scale: the tensor, an output channel, or a "
              "group of columns of one"};
}

ParamSpec GroupParam(std::string_view default_value) {
  return {.name = kGroup,
          .type = ParamSpec::Type::kInteger,
          .default_value = default_value,
          .min = -1,
          .max = 1024,
          .help =
              "columns of a group, a multiple of 16, the last of a row may "
              "be shorter; -1: whole rows"};
}

absl::StatusOr<Reach> ReachOf(const QuantMethod& method,
                              const ParamValues& params) {
  const auto granularity = params.find(std::string(kGranularity));
  const int64_t group = IntegerOf(params, kGroup);
  if (granularity != params.end() && granularity->second != kGroup) {
    if (!IsDefault(method, params, kGroup)) {
      return absl::InvalidArgumentError(
          StrCat("parameter 'group' of method '", method.name(),
                 "' is for granularity=group; write ", method.name(),
                 ":granularity=group,group=", group, " or leave it out"));
    }
    return granularity->second == "tensor" ? Reach::Matrix() : Reach::Row();
  }
  if (group == -1) return Reach::Row();
  if (group < 16 || group % 16 != 0) {
    return absl::InvalidArgumentError(
        StrCat("parameter 'group' of method '", method.name(),
               "' must be a multiple of 16 from 16 to 1024, or -1 for whole "
               "rows, is ",
               group));
  }
  return Reach::Columns(group);
}

}  // namespace ounce::quant
