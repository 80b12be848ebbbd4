// A BPE as "model" of a tokenizer.json describes it.
#include <memory>
#include <string>
#include <string_view>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/bpe.h"
#include "model/tokenizer/step_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

using nlohmann::json;

bool AddMerge(std::string_view text, BpeParts& parts) {
  const size_t space = text.find(' ');
  if (space == text.npos || text.find(' ', space + 1) != text.npos) {
    return false;
  }
  parts.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  return true;
}

namespace {

// "a b" strings in older files, ["a", "b"] pairs in newer ones, never both.
absl::Status ReadMerges(const json& model, BpeParts& parts) {
  const json* merges = FindField(model, "merges");
  if (merges == nullptr || !merges->is_array()) {
    return WrongType("merges", merges, "an array");
  }
  const bool pairs = !merges->empty() && merges->front().is_array();
  parts.merges.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    const json& merge = (*merges)[i];
    const auto wrong = [&](std::string_view wanted) {
      return absl::InvalidArgumentError(
          StrCat("merges: entry ", i, " is not ", wanted));
    };
    if (pairs) {
      if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() ||
          !merge[1].is_string()) {
        return wrong("a pair of strings, as the first one is");
      }
      parts.merges.emplace_back(merge[0].get_ref<const std::string&>(),
                                merge[1].get_ref<const std::string&>());
      continue;
    }
    if (!merge.is_string()) return wrong("a string, as the first one is");
    const std::string_view text = merge.get_ref<const std::string&>();
    if (text.starts_with("#version")) continue;
    if (!AddMerge(text, parts)) return wrong("two tokens with a space between");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<const TokenModel>> MakeBpe(const json& model,
                                                          bool byte_level) {
  RETURN_IF_ERROR(CheckKeys(
      model, {"type", "dropout", "unk_token", "continuing_subword_prefix",
              "end_of_word_suffix", "fuse_unk", "byte_fallback",
              "ignore_merges", "vocab", "merges"}));
  BpeParts parts;
  parts.byte_level = byte_level;
  ASSIGN_OR_RETURN(const double dropout,
                   OptionalJsonNumber(model, "dropout", 0, 1, 0));
  if (dropout != 0) {
    return Unsupported("dropout", StrCat(dropout), "0");
  }
  ASSIGN_OR_RETURN(parts.continuing_subword_prefix,
                   OptionalJsonString(model, "continuing_subword_prefix", ""));
  ASSIGN_OR_RETURN(parts.end_of_word_suffix,
                   OptionalJsonString(model, "end_of_word_suffix", ""));
  ASSIGN_OR_RETURN(parts.byte_fallback,
                   OptionalJsonBool(model, "byte_fallback", false));
  ASSIGN_OR_RETURN(parts.fuse_unknown,
                   OptionalJsonBool(model, "fuse_unk", false));
  ASSIGN_OR_RETURN(parts.ignore_merges,
                   OptionalJsonBool(model, "ignore_merges", false));
  if (FindField(model, "unk_token") != nullptr) {
    ASSIGN_OR_RETURN(parts.unknown_token, JsonString(model, "unk_token"));
  }
  ASSIGN_OR_RETURN(parts.vocabulary, ReadVocabulary(model));
  RETURN_IF_ERROR(ReadMerges(model, parts));
  return Bpe::Create(parts);
}

}  // namespace ounce::model
