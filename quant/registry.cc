#include "quant/registry.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {

#define QUANT_METHOD(function, name) const QuantMethod& function();
#include "quant/methods.def"
#undef QUANT_METHOD

namespace {

// What is wrong comes from the wire, so messages quote only so much of it.
std::string Quoted(std::string_view text) {
  constexpr size_t kMost = 80;
  if (text.size() <= kMost) return StrCat("'", text, "'");
  return StrCat("'", text.substr(0, kMost), "...' (", text.size(), " bytes)");
}

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

std::string KnownParams(const QuantMethod& method) {
  if (method.params().empty()) {
    return StrCat("method '", method.name(), "' takes no parameters");
  }
  return StrCat("method '", method.name(), "' takes ",
                absl::StrJoin(method.params(), ", ",
                              [](std::string* out, const ParamSpec& param) {
                                StrAppend(out, param.name, " (",
                                          Possible(param), "; default ",
                                          param.default_value, ")");
                              }));
}

std::string KnownMethods(absl::Span<const QuantMethod* const> methods) {
  return StrCat("known methods are ",
                absl::StrJoin(methods, ", ",
                              [](std::string* out, const QuantMethod* method) {
                                StrAppend(out, method->name());
                              }));
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

absl::Status SetParam(const QuantMethod& method, std::string_view setting,
                      ParamValues& values) {
  const size_t equals = setting.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return absl::InvalidArgumentError(StrCat(
        "parameters must be written key=value with commas between, ",
        setting.empty() ? "one is empty" : StrCat("one is ", Quoted(setting)),
        "; ", KnownParams(method)));
  }
  const std::string_view key = setting.substr(0, equals);
  const std::string_view value = setting.substr(equals + 1);
  for (const ParamSpec& param : method.params()) {
    if (param.name != key) continue;
    const std::optional<std::string> text = Checked(param, value);
    if (!text.has_value()) {
      return absl::InvalidArgumentError(
          StrCat("parameter ", Quoted(key), " of method '", method.name(),
                 "' must be ", Possible(param), ", is ",
                 value.empty() ? "empty" : Quoted(value)));
    }
    if (!values.emplace(key, *text).second) {
      return absl::InvalidArgumentError(
          StrCat("parameter ", Quoted(key), " is given twice"));
    }
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      StrCat("unknown parameter ", Quoted(key), "; ", KnownParams(method)));
}

MethodSpec WithDefaults(const QuantMethod& method, ParamValues values) {
  for (const ParamSpec& param : method.params()) {
    values.emplace(param.name, param.default_value);
  }
  return {&method, std::move(values)};
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
    return absl::InvalidArgumentError(StrCat(
        "quantization method ", Quoted(text), " must be without whitespace"));
  }
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  for (const QuantMethod* method : methods) {
    if (method->name() != name) continue;
    ParamValues values;
    if (colon != std::string_view::npos) {
      for (absl::string_view setting :
           absl::StrSplit(ToAbsl(text.substr(colon + 1)), ',')) {
        RETURN_IF_ERROR(SetParam(*method, FromAbsl(setting), values));
      }
    }
    return WithDefaults(*method, std::move(values));
  }
  return absl::InvalidArgumentError(StrCat("unknown quantization method ",
                                           Quoted(name), "; ",
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
