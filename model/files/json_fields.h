// Fields of a config object, each with its type and range checked.
//
// Every error is kInvalidArgument and names the key, what it must be and what
// it is, but not the file: the caller adds that with WithContext(status,
// "config.json"). The Optional forms return `absent` when the key is missing or
// null, and never accept a wrong type.
#ifndef OUNCE_MODEL_FILES_JSON_FIELDS_H_
#define OUNCE_MODEL_FILES_JSON_FIELDS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// An integer in [min, max]. 4.0 counts as 4, as it does for Python's readers.
absl::StatusOr<int64_t> JsonInt(const nlohmann::json& object,
                                std::string_view key, int64_t min, int64_t max);
absl::StatusOr<int64_t> OptionalJsonInt(const nlohmann::json& object,
                                        std::string_view key, int64_t min,
                                        int64_t max, int64_t absent);

// A number, integer or not, in [min, max].
absl::StatusOr<double> JsonNumber(const nlohmann::json& object,
                                  std::string_view key, double min, double max);
absl::StatusOr<double> OptionalJsonNumber(const nlohmann::json& object,
                                          std::string_view key, double min,
                                          double max, double absent);

absl::StatusOr<bool> JsonBool(const nlohmann::json& object,
                              std::string_view key);
absl::StatusOr<bool> OptionalJsonBool(const nlohmann::json& object,
                                      std::string_view key, bool absent);

absl::StatusOr<std::string> JsonString(const nlohmann::json& object,
                                       std::string_view key);
absl::StatusOr<std::string> OptionalJsonString(const nlohmann::json& object,
                                               std::string_view key,
                                               std::string_view absent);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_FILES_JSON_FIELDS_H_
