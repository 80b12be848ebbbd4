#include "quant/params.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {
namespace {

std::string Join(const std::vector<std::string_view>& names) {
  return absl::StrJoin(
      names, ", ",
      [](std::string* out, std::string_view name) { out->append(name); });
}

std::string ShortestText(double number) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), number);
  return std::string(text, end.ptr);
}

// "8", "one of 4, 8" or "an integer from 1 to 64".
std::string Possible(const ParamSpec& param) {
  switch (param.type) {
    case ParamSpec::Type::kInteger:
      return StrCat("an integer from ", param.min, " to ", param.max);
    case ParamSpec::Type::kNumber:
      return StrCat("a number from ", ShortestText(param.lowest), " to ",
                    ShortestText(param.highest));
    case ParamSpec::Type::kBoolean:
      return "true or false";
    case ParamSpec::Type::kChoice:
      break;
  }
  return param.choices.size() == 1 ? std::string(param.choices.front())
                                   : StrCat("one of ", Join(param.choices));
}

std::string OwnersParams(std::string_view owner,
                         absl::Span<const ParamSpec> declared) {
  if (declared.empty()) return StrCat(owner, " takes no parameters");
  return StrCat(owner, " takes ", KnownParams(declared));
}

// The text that is kept of a value; absent if the parameter cannot have it.
std::optional<std::string> Checked(const ParamSpec& param,
                                   std::string_view value) {
  bool allowed = false;
  std::string text(value);
  switch (param.type) {
    case ParamSpec::Type::kInteger: {
      int64_t number;
      // Only the shortest form.
      allowed = absl::SimpleAtoi(ToAbsl(value), &number) &&
                StrCat(number) == value && number >= param.min &&
                number <= param.max;
      break;
    }
    case ParamSpec::Type::kNumber: {
      double number;
      allowed = absl::SimpleAtod(ToAbsl(value), &number) &&
                number >= param.lowest && number <= param.highest;
      // Of -0 too.
      if (allowed) text = ShortestText(number == 0 ? 0 : number);
      break;
    }
    case ParamSpec::Type::kBoolean:
      allowed = value == "true" || value == "false";
      break;
    case ParamSpec::Type::kChoice:
      allowed = std::find(param.choices.begin(), param.choices.end(), value) !=
                param.choices.end();
      break;
  }
  if (!allowed) return std::nullopt;
  return text;
}

absl::Status SetParam(std::string_view owner,
                      absl::Span<const ParamSpec> declared,
                      std::string_view setting, ParamValues& values) {
  const size_t equals = setting.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return absl::InvalidArgumentError(
        StrCat("parameters must be written key=value with commas between, ",
               setting.empty() ? "one is empty"
                               : StrCat("one is ", QuotedPart(setting)),
               "; ", OwnersParams(owner, declared)));
  }
  const std::string_view key = setting.substr(0, equals);
  const std::string_view value = setting.substr(equals + 1);
  for (const ParamSpec& param : declared) {
    if (param.name != key) continue;
    const std::optional<std::string> text = Checked(param, value);
    if (!text.has_value()) {
      return absl::InvalidArgumentError(
          StrCat("parameter ", QuotedPart(key), " of ", owner, " must be ",
                 Possible(param), ", is ",
                 value.empty() ? "empty" : QuotedPart(value)));
    }
    if (!values.emplace(key, *text).second) {
      return absl::InvalidArgumentError(
          StrCat("parameter ", QuotedPart(key), " is given twice"));
    }
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(StrCat("unknown parameter ",
                                           QuotedPart(key), "; ",
                                           OwnersParams(owner, declared)));
}

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

std::vector<std::string_view> Settings(std::string_view text) {
  std::vector<std::string_view> settings;
  for (const absl::string_view setting : absl::StrSplit(ToAbsl(text), ',')) {
    settings.push_back(FromAbsl(setting));
  }
  return settings;
}

absl::StatusOr<ParamValues> ParseParams(
    std::string_view owner, absl::Span<const ParamSpec> declared,
    const std::vector<std::string_view>& settings) {
  ParamValues values;
  for (const std::string_view setting : settings) {
    RETURN_IF_ERROR(SetParam(owner, declared, setting, values));
  }
  for (const ParamSpec& param : declared) {
    values.emplace(param.name, param.default_value);
  }
  return values;
}

std::string ParamsText(absl::Span<const ParamSpec> declared,
                       const ParamValues& values) {
  std::string text;
  for (const ParamSpec& param : declared) {
    const std::string& value = TextOf(values, param.name);
    if (value == param.default_value) continue;
    StrAppend(&text, text.empty() ? "" : ",", param.name, "=", value);
  }
  return text;
}

std::string KnownParams(absl::Span<const ParamSpec> declared) {
  return absl::StrJoin(declared, ", ",
                       [](std::string* out, const ParamSpec& param) {
                         StrAppend(out, param.name, " (", Possible(param),
                                   "; default ", param.default_value, ")");
                       });
}

std::string QuotedPart(std::string_view text) {
  constexpr size_t kMost = 80;
  if (text.size() <= kMost) return StrCat("'", text, "'");
  return StrCat("'", text.substr(0, kMost), "...' (", text.size(), " bytes)");
}

}  // namespace ounce::quant
