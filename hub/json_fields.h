// Fields of what the hub answers, which may be anything.
#ifndef OUNCE_HUB_JSON_FIELDS_H_
#define OUNCE_HUB_JSON_FIELDS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace ounce::hub {

// Each: nothing if `object` is no object, has no such field, or one of another
// type.
std::optional<std::string> TextIn(const nlohmann::json& object,
                                  const char* key);
std::optional<int64_t> WholeNumberIn(const nlohmann::json& object,
                                     const char* key);
bool IsTrueIn(const nlohmann::json& object, const char* key);
// Null in place of nothing; lives as long as `object`.
const nlohmann::json* ListIn(const nlohmann::json& object, const char* key);
const nlohmann::json* ObjectIn(const nlohmann::json& object, const char* key);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_JSON_FIELDS_H_
