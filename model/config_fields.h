// Fields of a config.json as transformers' config classes take them: a key that
// is absent has the class's default; one that is null has no value at all,
// which no network can be built of, so it is refused.
//
// Errors: kInvalidArgument, saying what the key must be and what it is, without
//   the file.
#ifndef OUNCE_MODEL_CONFIG_FIELDS_H_
#define OUNCE_MODEL_CONFIG_FIELDS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// Present and not null.
bool IsGiven(const nlohmann::json& object, std::string_view key);

// The beginning of a value, for messages.
std::string ShortJson(const nlohmann::json& value);

absl::StatusOr<int64_t> IntField(const nlohmann::json& object,
                                 std::string_view key, int64_t min, int64_t max,
                                 int64_t absent);
absl::StatusOr<double> NumberField(const nlohmann::json& object,
                                   std::string_view key, double min, double max,
                                   double absent);
absl::StatusOr<std::string> StringField(const nlohmann::json& object,
                                        std::string_view key,
                                        std::string_view absent);
// null is false, as in Python.
absl::StatusOr<bool> BoolField(const nlohmann::json& object,
                               std::string_view key, bool absent);

// `alias` is another name of `key` (an attribute_map of transformers). Both may
// be given if they agree.
absl::StatusOr<int64_t> IntField(const nlohmann::json& object,
                                 std::string_view key, std::string_view alias,
                                 int64_t min, int64_t max, int64_t absent);

// "'key' must be `wanted`, is `found`".
absl::Status WrongField(std::string_view key, std::string_view wanted,
                        std::string_view found);
// The same as kUnimplemented: a value that is right, but not supported.
absl::Status UnsupportedField(std::string_view key, std::string_view wanted,
                              std::string_view found);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CONFIG_FIELDS_H_
