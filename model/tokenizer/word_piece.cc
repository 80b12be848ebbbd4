// WordPiece: the longest token that a word begins with, then the longest that
// goes on with the rest, ...; a word that cannot be spelled so is unknown as a
// whole.
//
// Source: Hugging Face tokenizers 0.22.2, models/wordpiece/mod.rs.
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/byte_trie.h"
#include "model/tokenizer/step_fields.h"
#include "model/tokenizer/token_model.h"
#include "model/tokenizer/vocabulary.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

class WordPieceModel : public TokenModel {
 public:
  struct Parts {
    TokenIds tokens;
    std::string unknown_token;
    std::string continuing_prefix;  // of tokens that do not begin a word
    int64_t max_characters = 0;     // of a word; a longer one is unknown
  };
  static absl::StatusOr<std::unique_ptr<const TokenModel>> Create(
      const Parts& parts) {
    ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Create(parts.tokens));
    ASSIGN_OR_RETURN(ByteTrie trie, ByteTrie::Create({parts.tokens.begin(),
                                                      parts.tokens.end()}));
    return std::unique_ptr<const TokenModel>(
        new WordPieceModel(std::move(vocabulary), std::move(trie), parts));
  }

  std::unique_ptr<Encoder> StartEncoding() const override {
    return std::make_unique<LongestFirst>(*this);
  }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  int64_t resident_bytes() const override {
    return static_cast<int64_t>(sizeof(WordPieceModel)) +
           vocabulary_.resident_bytes() + trie_.resident_bytes();
  }

 private:
  class LongestFirst : public Encoder {
   public:
    explicit LongestFirst(const WordPieceModel& model) : model_(model) {}
    absl::Status AppendIds(std::string_view word,
                           std::vector<int32_t>& ids) override {
      return model_.AppendIds(word, ids);
    }

   private:
    const WordPieceModel& model_;
  };

  WordPieceModel(Vocabulary vocabulary, ByteTrie trie, const Parts& parts)
      : vocabulary_(std::move(vocabulary)),
        trie_(std::move(trie)),
        begin_of_rest_(trie_.Walk(ByteTrie::kRoot, parts.continuing_prefix)),
        has_rest_(parts.continuing_prefix.empty() ||
                  begin_of_rest_ != ByteTrie::kRoot),
        unknown_token_(parts.unknown_token),
        unknown_id_(vocabulary_.Id(parts.unknown_token)),
        max_characters_(parts.max_characters) {}

  bool IsTooLong(std::string_view word) const {
    if (static_cast<int64_t>(word.size()) <= max_characters_) return false;
    int64_t characters = 0;
    for (const char byte : word) characters += (byte & 0xc0) != 0x80;
    return characters > max_characters_;
  }

  // Time: the word's bytes times those of the longest token.
  absl::Status AppendIds(std::string_view word,
                         std::vector<int32_t>& ids) const {
    if (IsTooLong(word)) return AppendUnknown(ids);
    const size_t before = ids.size();
    for (size_t begin = 0; begin < word.size();) {
      ByteTrie::Node node = begin == 0 ? ByteTrie::kRoot : begin_of_rest_;
      size_t longest = begin;
      int32_t longest_id = -1;
      for (size_t end = begin;
           end < word.size() && (begin == 0 || has_rest_);) {
        node = trie_.Next(node, word[end]);
        if (node == ByteTrie::kRoot) break;
        ++end;
        if (trie_.Id(node) < 0) continue;
        longest = end;
        longest_id = trie_.Id(node);
      }
      if (longest_id < 0) {
        ids.resize(before);
        return AppendUnknown(ids);
      }
      ids.push_back(longest_id);
      begin = longest;
    }
    return absl::OkStatus();
  }

  absl::Status AppendUnknown(std::vector<int32_t>& ids) const {
    if (!unknown_id_.has_value()) {
      return absl::InvalidArgumentError(
          StrCat("the text has a word without tokens, and the tokenizer's ",
                 "unknown token ", Quoted(unknown_token_),
                 " is not in its vocabulary"));
    }
    ids.push_back(*unknown_id_);
    return absl::OkStatus();
  }

  const Vocabulary vocabulary_;
  const ByteTrie trie_;
  const ByteTrie::Node begin_of_rest_;  // what the prefix leads to
  const bool has_rest_;                 // some token has the prefix
  const std::string unknown_token_;
  const std::optional<int32_t> unknown_id_;
  const int64_t max_characters_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const TokenModel>> MakeWordPiece(
    const json& model, bool /*byte_level*/) {
  RETURN_IF_ERROR(
      CheckKeys(model, {"type", "unk_token", "continuing_subword_prefix",
                        "max_input_chars_per_word", "vocab"}));
  WordPieceModel::Parts parts;
  ASSIGN_OR_RETURN(parts.unknown_token, JsonString(model, "unk_token"));
  ASSIGN_OR_RETURN(parts.continuing_prefix,
                   JsonString(model, "continuing_subword_prefix"));
  ASSIGN_OR_RETURN(parts.max_characters,
                   JsonInt(model, "max_input_chars_per_word", 0,
                           std::numeric_limits<int64_t>::max()));
  ASSIGN_OR_RETURN(parts.tokens, ReadVocabulary(model));
  return WordPieceModel::Create(parts);
}

}  // namespace ounce::model
