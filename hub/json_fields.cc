#include "hub/json_fields.h"

namespace ounce::hub {
namespace {

const nlohmann::json* FieldIn(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

}  // namespace

std::optional<std::string> TextIn(const nlohmann::json& object,
                                  const char* key) {
  const nlohmann::json* const field = FieldIn(object, key);
  if (field == nullptr || !field->is_string()) return std::nullopt;
  return field->get<std::string>();
}

std::optional<int64_t> WholeNumberIn(const nlohmann::json& object,
                                     const char* key) {
  const nlohmann::json* const field = FieldIn(object, key);
  if (field == nullptr || !field->is_number_integer()) return std::nullopt;
  return field->get<int64_t>();
}

bool IsTrueIn(const nlohmann::json& object, const char* key) {
  const nlohmann::json* const field = FieldIn(object, key);
  return field != nullptr && field->is_boolean() && field->get<bool>();
}

const nlohmann::json* ListIn(const nlohmann::json& object, const char* key) {
  const nlohmann::json* const field = FieldIn(object, key);
  return field != nullptr && field->is_array() ? field : nullptr;
}

const nlohmann::json* ObjectIn(const nlohmann::json& object, const char* key) {
  const nlohmann::json* const field = FieldIn(object, key);
  return field != nullptr && field->is_object() ? field : nullptr;
}

}  // namespace ounce::hub
