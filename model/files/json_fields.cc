#include "model/files/json_fields.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "model/files/byte_source.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

// Null for a key that is missing or null.
const json* Find(const json& object, std::string_view key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return nullptr;
  return &*found;
}

std::string Describe(const json* value) {
  if (value == nullptr) return "missing";
  if (value->is_string()) return Quoted(value->get_ref<const std::string&>());
  if (value->is_structured()) return absl::StrCat("an ", value->type_name());
  return value->dump();
}

absl::Status Wrong(std::string_view key, const json* value,
                   const std::string& wanted) {
  return absl::InvalidArgumentError(absl::StrCat(
      "'", std::string(key), "' must be ", wanted, ", is ", Describe(value)));
}

absl::StatusOr<int64_t> CheckInt(std::string_view key, const json* value,
                                 int64_t min, int64_t max) {
  const auto wrong = [&] {
    return Wrong(key, value,
                 absl::StrCat("an integer from ", min, " to ", max));
  };
  if (value == nullptr || !value->is_number()) return wrong();
  int64_t number = 0;
  if (value->is_number_float()) {
    const double real = value->get<double>();
    // 2^53: beyond it a double no longer names one integer.
    if (real != std::floor(real) || std::fabs(real) > 9007199254740992.0) {
      return wrong();
    }
    number = static_cast<int64_t>(real);
  } else if (value->is_number_unsigned() &&
             value->get<uint64_t>() >
                 uint64_t{std::numeric_limits<int64_t>::max()}) {
    return wrong();
  } else {
    number = value->get<int64_t>();
  }
  if (number < min || number > max) return wrong();
  return number;
}

absl::StatusOr<double> CheckNumber(std::string_view key, const json* value,
                                   double min, double max) {
  if (value != nullptr && value->is_number()) {
    const double number = value->get<double>();
    if (number >= min && number <= max) return number;
  }
  return Wrong(key, value, absl::StrCat("a number from ", min, " to ", max));
}

absl::StatusOr<bool> CheckBool(std::string_view key, const json* value) {
  if (value != nullptr && value->is_boolean()) return value->get<bool>();
  return Wrong(key, value, "true or false");
}

absl::StatusOr<std::string> CheckString(std::string_view key,
                                        const json* value) {
  if (value != nullptr && value->is_string()) return value->get<std::string>();
  return Wrong(key, value, "a string");
}

}  // namespace

absl::StatusOr<int64_t> JsonInt(const json& object, std::string_view key,
                                int64_t min, int64_t max) {
  return CheckInt(key, Find(object, key), min, max);
}

absl::StatusOr<int64_t> OptionalJsonInt(const json& object,
                                        std::string_view key, int64_t min,
                                        int64_t max, int64_t absent) {
  const json* value = Find(object, key);
  if (value == nullptr) return absent;
  return CheckInt(key, value, min, max);
}

absl::StatusOr<double> JsonNumber(const json& object, std::string_view key,
                                  double min, double max) {
  return CheckNumber(key, Find(object, key), min, max);
}

absl::StatusOr<double> OptionalJsonNumber(const json& object,
                                          std::string_view key, double min,
                                          double max, double absent) {
  const json* value = Find(object, key);
  if (value == nullptr) return absent;
  return CheckNumber(key, value, min, max);
}

absl::StatusOr<bool> JsonBool(const json& object, std::string_view key) {
  return CheckBool(key, Find(object, key));
}

absl::StatusOr<bool> OptionalJsonBool(const json& object, std::string_view key,
                                      bool absent) {
  const json* value = Find(object, key);
  if (value == nullptr) return absent;
  return CheckBool(key, value);
}

absl::StatusOr<std::string> JsonString(const json& object,
                                       std::string_view key) {
  return CheckString(key, Find(object, key));
}

absl::StatusOr<std::string> OptionalJsonString(const json& object,
                                               std::string_view key,
                                               std::string_view absent) {
  const json* value = Find(object, key);
  if (value == nullptr) return std::string(absent);
  return CheckString(key, value);
}

}  // namespace ounce::model
