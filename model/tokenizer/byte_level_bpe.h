// Byte-level BPE, as GPT-2, CodeGen and OPT use it.
//
//   text -> added tokens cut out -> words -> bytes -> merges -> ids
//
// Sources: Hugging Face tokenizers 0.22.2 (models/bpe, added_vocabulary.rs,
// pre_tokenizers/byte_level.rs), whose ids ours equal.
#ifndef OUNCE_MODEL_TOKENIZER_BYTE_LEVEL_BPE_H_
#define OUNCE_MODEL_TOKENIZER_BYTE_LEVEL_BPE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/tokenizer/added_tokens.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/word_splitter.h"

namespace ounce::model {

// Ids from 0 to one less. The largest published vocabularies have about a
// quarter of a million.
inline constexpr int32_t kMaxVocabularySize = 1 << 22;

// What a tokenizer's files say, whatever their form. Tokens and merges are in
// GPT-2's byte alphabet: a printable character for each byte, 'Ġ' for a space.
struct BpeParts {
  std::vector<std::pair<std::string, int32_t>> vocabulary;
  // The first one is applied first.
  std::vector<std::pair<std::string, std::string>> merges;
  // Of one content the last one's flags count, but for `special`, which any of
  // them sets. Their ids are not looked at: a
  // token of the vocabulary has that id, others get those from the vocabulary's
  // size on, in this order.
  std::vector<AddedToken> added_tokens;
  // For bytes without a token; without it they are dropped.
  std::optional<std::string> unknown_token;
  bool fuse_unknown = false;   // one for a run of such bytes
  bool ignore_merges = false;  // a word that is a token stays whole
  bool add_prefix_space = false;
  bool use_regex = true;  // cut into words first
  // Around every encoded text.
  std::vector<int32_t> ids_before;
  std::vector<int32_t> ids_after;
};

class ByteLevelBpe : public Tokenizer {
 public:
  // Errors: kInvalidArgument, with the reason, when the parts contradict each
  // other or exceed the limits.
  static absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> Create(
      BpeParts parts);

  absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text) const override;
  std::string Decode(absl::Span<const int32_t> ids,
                     bool skip_special = true) const override;
  std::optional<int32_t> SpecialTokenId(std::string_view text) const override;
  int32_t size() const override {
    return static_cast<int32_t>(token_end_.size());
  }

 private:
  struct Merge {
    uint32_t rank = 0;
    int32_t id = -1;  // of the token that results
  };
  class Encoding;

  ByteLevelBpe() = default;

  using IdByToken = absl::flat_hash_map<absl::string_view, int32_t>;

  // Each fills its part of the members, in this order.
  absl::Status SetAddedTokens(const BpeParts& parts, const IdByToken& ids,
                              std::vector<AddedToken>& added);
  absl::Status SetTokenBytes(const BpeParts& parts,
                             const std::vector<AddedToken>& added);
  absl::Status SetUnknownToken(const BpeParts& parts, const IdByToken& ids);
  absl::Status SetMerges(const BpeParts& parts, const IdByToken& ids);

  std::unique_ptr<const WordSplitter> splitter_;
  AddedTokenFinder plain_finder_;           // of added tokens, not normalized
  AddedTokenFinder normalized_finder_;      // sought in what the first left
  std::array<int32_t, 256> byte_ids_ = {};  // -1: no token
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by left << 32 | right
  std::vector<int32_t> merged_ids_;              // by rank
  // Filled only for ignore_merges: the bytes of every token of the vocabulary.
  absl::flat_hash_map<std::string, int32_t> whole_words_;
  bool ignore_merges_ = false;
  bool add_prefix_space_ = false;
  bool use_regex_ = true;
  bool fuse_unknown_ = false;
  int32_t unknown_id_ = -1;  // -1: unknown bytes are dropped
  std::vector<int32_t> ids_before_;
  std::vector<int32_t> ids_after_;
  // The bytes of token i are token_bytes_[token_end_[i - 1], token_end_[i]).
  std::string token_bytes_;
  std::vector<uint32_t> token_end_;
  std::vector<bool> special_;
  absl::flat_hash_map<std::string, int32_t> special_ids_;
};

// The content of the small files that may lie beside either form.
struct CompanionFiles {
  std::optional<std::string> added_tokens_json;
  std::optional<std::string> tokenizer_config_json;
  std::optional<std::string> special_tokens_map_json;
};

// The tokenizer that the content of a tokenizer.json describes; `name` is for
// messages. Truncation and padding, which a caller may ask the library for, are
// not applied.
// Errors: kInvalidArgument for what is malformed, kUnimplemented for what is
// not byte-level BPE, both naming the file and the part.
absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> ParseTokenizerJson(
    const std::string& name, std::string_view text);

// The same in a folder, with what the companions add (companion_files.h).
absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> ParseTokenizerJson(
    const std::string& name, std::string_view text,
    const CompanionFiles& companions);

// The content of the older files.
struct VocabularyFiles {
  std::string vocab_json;
  std::string merges_txt;
  CompanionFiles companions;
};

// The tokenizer that transformers 4.57 makes of these files when it converts a
// GPT-2 or CodeGen tokenizer to its fast form. Errors: as above.
absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> ParseVocabularyFiles(
    const VocabularyFiles& files);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_BYTE_LEVEL_BPE_H_
