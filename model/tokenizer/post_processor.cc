#include "model/tokenizer/post_processor.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/types/optional.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/step_fields.h"
#include "model/tokenizer/vocabulary.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

constexpr char kPart[] = "post_processor";

bool IsId(const json& value) {
  return value.is_number_unsigned() &&
         value.get<uint64_t>() < uint64_t{kMaxVocabularySize};
}

// "single": [{"SpecialToken": {"id": "<s>", ...}}, {"Sequence": {"id": "A"}}].
absl::StatusOr<IdsAround> ReadTemplate(const json& processor) {
  RETURN_IF_ERROR(
      CheckKeys(processor, {"type", "single", "pair", "special_tokens"}));
  IdsAround around;
  const json* single = FindField(processor, "single");
  const json* tokens = FindField(processor, "special_tokens");
  if (single == nullptr || !single->is_array()) {
    return absl::InvalidArgumentError("'single' is not an array");
  }
  bool after = false;
  for (const json& piece : *single) {
    const json* sequence =
        piece.is_object() ? FindField(piece, "Sequence") : nullptr;
    const json* special =
        piece.is_object() ? FindField(piece, "SpecialToken") : nullptr;
    const json* what = sequence != nullptr ? sequence : special;
    if (what == nullptr || !what->is_object()) {
      return absl::InvalidArgumentError(
          "'single' has a piece that is neither Sequence nor SpecialToken");
    }
    ASSIGN_OR_RETURN(const std::string name, JsonString(*what, "id"));
    if (sequence != nullptr) {
      if (name != "A" || after) {
        return Unsupported("'single'", StrCat("sequence ", Quoted(name)),
                           "sequence 'A' once");
      }
      after = true;
      continue;
    }
    const json* token = tokens != nullptr && tokens->is_object()
                            ? FindField(*tokens, name)
                            : nullptr;
    const json* ids = token != nullptr && token->is_object()
                          ? FindField(*token, "ids")
                          : nullptr;
    if (ids == nullptr || !ids->is_array()) {
      return absl::InvalidArgumentError(
          StrCat("'special_tokens' has no ids for ", Quoted(name)));
    }
    for (const json& id : *ids) {
      if (!IsId(id)) {
        return absl::InvalidArgumentError(
            StrCat("'special_tokens' has an id for ", Quoted(name),
                   " that is not from 0 to ", kMaxVocabularySize - 1));
      }
      (after ? around.after : around.before).push_back(id.get<int32_t>());
    }
  }
  if (!after) return Unsupported("'single'", "no sequence", "sequence 'A'");
  return around;
}

// "cls": ["<s>", 0].
absl::StatusOr<int32_t> ReadTokenAndId(const json& processor,
                                       std::string_view key) {
  const json* pair = FindField(processor, key);
  if (pair == nullptr || !pair->is_array() || pair->size() != 2 ||
      !(*pair)[0].is_string() || !IsId((*pair)[1])) {
    return absl::InvalidArgumentError(
        StrCat("'", key, "' must be a token and its id, from 0 to ",
               kMaxVocabularySize - 1));
  }
  return (*pair)[1].get<int32_t>();
}

// BERT's and RoBERTa's differ in the types and offsets of tokens, not in ids.
absl::StatusOr<IdsAround> ReadClsAndSep(const json& processor) {
  RETURN_IF_ERROR(CheckKeys(
      processor, {"type", "cls", "sep", "trim_offsets", "add_prefix_space"}));
  IdsAround around;
  ASSIGN_OR_RETURN(const int32_t cls, ReadTokenAndId(processor, "cls"));
  ASSIGN_OR_RETURN(const int32_t sep, ReadTokenAndId(processor, "sep"));
  around.before.push_back(cls);
  around.after.push_back(sep);
  return around;
}

// It changes offsets, no ids.
absl::StatusOr<IdsAround> ReadByteLevel(const json& processor) {
  RETURN_IF_ERROR(CheckKeys(
      processor, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  return IdsAround();
}

struct Entry {
  std::string_view type;
  absl::StatusOr<IdsAround> (*read)(const json&);
};

constexpr Entry kProcessors[] = {
    {"BertProcessing", &ReadClsAndSep},
    {"ByteLevel", &ReadByteLevel},
    {"RobertaProcessing", &ReadClsAndSep},
    {"TemplateProcessing", &ReadTemplate},
};

absl::StatusOr<IdsAround> Read(const json& step) {
  ASSIGN_OR_RETURN(const std::string type, TypeOf(kPart, step));
  for (const Entry& entry : kProcessors) {
    if (entry.type != type) continue;
    absl::StatusOr<IdsAround> around = entry.read(step);
    if (!around.ok()) {
      return WithContext(around.status(), StrCat(kPart, " ", type));
    }
    return around;
  }
  return absl::UnimplementedError(
      StrCat(kPart, ": type ", Quoted(type), " is not supported"));
}

}  // namespace

absl::StatusOr<IdsAround> ReadPostProcessor(const json* post_processor) {
  ASSIGN_OR_RETURN(const std::vector<const json*> steps,
                   Steps(kPart, post_processor, "processors"));
  IdsAround all;
  bool has_ids = false;
  for (const json* step : steps) {
    ASSIGN_OR_RETURN(IdsAround around, Read(*step));
    if (around.before.empty() && around.after.empty()) continue;
    // What the reference makes of two is no longer one text.
    if (has_ids) {
      return absl::UnimplementedError(
          StrCat(kPart, " must have one step that adds tokens, has more"));
    }
    has_ids = true;
    all = std::move(around);
  }
  return all;
}

}  // namespace ounce::model
