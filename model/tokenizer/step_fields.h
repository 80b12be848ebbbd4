// The parts of a tokenizer.json, each an object with a "type", and what is said
// of one that is not as it must be.
#ifndef OUNCE_MODEL_TOKENIZER_STEP_FIELDS_H_
#define OUNCE_MODEL_TOKENIZER_STEP_FIELDS_H_

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/tokenizer/vocabulary.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// Null for a key that is missing or null.
const nlohmann::json* FindField(const nlohmann::json& object,
                                std::string_view key);

// kUnimplemented: "`part` must be `supported`, is `is`: ...".
absl::Status Unsupported(std::string_view part, std::string_view is,
                         std::string_view supported);

// kInvalidArgument; null counts as JSON null.
absl::Status WrongType(std::string_view part, const nlohmann::json* is,
                       std::string_view type);

// The type of a part such as the decoder: {"type": "ByteLevel", ...}.
absl::StatusOr<std::string> TypeOf(std::string_view part,
                                   const nlohmann::json& value);

// The steps that a part consists of: a Sequence's, which `list` names, those of
// Sequences in it in their place, or the part itself; none for null.
absl::StatusOr<std::vector<const nlohmann::json*>> Steps(
    std::string_view part, const nlohmann::json* value, std::string_view list);

// Errors: kUnimplemented for the first key of `object` that is not among
// `known`: it may change what is computed.
absl::Status CheckKeys(const nlohmann::json& object,
                       std::initializer_list<std::string_view> known);

// A string of one character.
absl::StatusOr<char32_t> JsonCharacter(const nlohmann::json& object,
                                       std::string_view key);

// The "vocab" of a model: {"token": id, ...}.
absl::StatusOr<TokenIds> ReadVocabulary(const nlohmann::json& model);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_STEP_FIELDS_H_
