#include "model/tokenizer/step_fields.h"

#include <algorithm>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

using nlohmann::json;

namespace {

// Of all steps of a part. Published files have at most a dozen.
constexpr size_t kMaxSteps = 64;

absl::Status AddSteps(std::string_view part, const json& value,
                      std::string_view list, std::vector<const json*>& steps) {
  ASSIGN_OR_RETURN(const std::string type, TypeOf(part, value));
  if (type != "Sequence") {
    if (steps.size() == kMaxSteps) {
      return absl::InvalidArgumentError(
          StrCat(part, " must have at most ", kMaxSteps, " steps, has more"));
    }
    steps.push_back(&value);
    return absl::OkStatus();
  }
  const json* sequence = FindField(value, list);
  if (sequence == nullptr || !sequence->is_array()) {
    return WrongType(StrCat(part, ": '", list, "'"), sequence, "an array");
  }
  for (const json& step : *sequence) {
    RETURN_IF_ERROR(AddSteps(part, step, list, steps));
  }
  return absl::OkStatus();
}

}  // namespace

const json* FindField(const json& object, std::string_view key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

absl::Status Unsupported(std::string_view part, std::string_view is,
                         std::string_view supported) {
  return absl::UnimplementedError(
      StrCat(part, " must be ", supported, ", is ", is,
             ": other tokenizers are not supported"));
}

absl::Status WrongType(std::string_view part, const json* is,
                       std::string_view type) {
  return absl::InvalidArgumentError(
      StrCat(part, " must be ", type, ", is JSON ",
             is == nullptr ? "null" : is->type_name()));
}

absl::StatusOr<std::string> TypeOf(std::string_view part, const json& value) {
  if (!value.is_object()) return WrongType(part, &value, "an object");
  absl::StatusOr<std::string> type = JsonString(value, "type");
  if (!type.ok()) return WithContext(type.status(), part);
  return type;
}

absl::StatusOr<std::vector<const json*>> Steps(std::string_view part,
                                               const json* value,
                                               std::string_view list) {
  std::vector<const json*> steps;
  if (value != nullptr) RETURN_IF_ERROR(AddSteps(part, *value, list, steps));
  return steps;
}

absl::Status CheckKeys(const json& object,
                       std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return absl::UnimplementedError(
          StrCat("key ", Quoted(key), " is not known"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<char32_t> JsonCharacter(const json& object,
                                       std::string_view key) {
  ASSIGN_OR_RETURN(const std::string text, JsonString(object, key));
  if (!text.empty()) {
    const Utf8Sequence first = FirstUtf8Sequence(text);
    if (first.kind == Utf8Sequence::kWhole && first.length == text.size()) {
      return first.code_point;
    }
  }
  return absl::InvalidArgumentError(
      StrCat("'", key, "' must be one character, is ", Quoted(text)));
}

absl::StatusOr<TokenIds> ReadVocabulary(const json& model) {
  const json* vocabulary = FindField(model, "vocab");
  if (vocabulary == nullptr || !vocabulary->is_object()) {
    return WrongType("vocab", vocabulary, "an object");
  }
  return ReadTokenIds("vocab", *vocabulary);
}

}  // namespace ounce::model
