#include "model/config_fields.h"

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

absl::Status CheckNotNull(const json& object, std::string_view key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_null()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("'", key, "' must not be null; without it the default counts"));
}

}  // namespace

bool IsGiven(const json& object, std::string_view key) {
  const auto found = object.find(key);
  return found != object.end() && !found->is_null();
}

std::string ShortJson(const json& value) {
  return value
      .dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace)
      .substr(0, 100);
}

absl::StatusOr<int64_t> IntField(const json& object, std::string_view key,
                                 int64_t min, int64_t max, int64_t absent) {
  RETURN_IF_ERROR(CheckNotNull(object, key));
  return OptionalJsonInt(object, key, min, max, absent);
}

absl::StatusOr<double> NumberField(const json& object, std::string_view key,
                                   double min, double max, double absent) {
  RETURN_IF_ERROR(CheckNotNull(object, key));
  return OptionalJsonNumber(object, key, min, max, absent);
}

absl::StatusOr<std::string> StringField(const json& object,
                                        std::string_view key,
                                        std::string_view absent) {
  RETURN_IF_ERROR(CheckNotNull(object, key));
  return OptionalJsonString(object, key, absent);
}

absl::StatusOr<bool> BoolField(const json& object, std::string_view key,
                               bool absent) {
  const auto found = object.find(key);
  if (found != object.end() && found->is_null()) return false;
  return OptionalJsonBool(object, key, absent);
}

absl::StatusOr<int64_t> IntField(const json& object, std::string_view key,
                                 std::string_view alias, int64_t min,
                                 int64_t max, int64_t absent) {
  if (!object.contains(alias)) return IntField(object, key, min, max, absent);
  ASSIGN_OR_RETURN(const int64_t value,
                   IntField(object, alias, min, max, absent));
  ASSIGN_OR_RETURN(const int64_t other, IntField(object, key, min, max, value));
  if (value == other) return value;
  return absl::InvalidArgumentError(
      StrCat("'", key, "' and '", alias,
             "' are two names of one number, but are ", other, " and ", value));
}

absl::Status WrongField(std::string_view key, std::string_view wanted,
                        std::string_view found) {
  return absl::InvalidArgumentError(
      StrCat("'", key, "' must be ", wanted, ", is ", found));
}

absl::Status UnsupportedField(std::string_view key, std::string_view wanted,
                              std::string_view found) {
  return absl::UnimplementedError(StrCat("'", key, "' must be ", wanted,
                                         ", is ", found,
                                         ", which is not supported"));
}

}  // namespace ounce::model
