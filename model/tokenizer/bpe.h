// Byte pair encoding: a word is its characters, or its bytes, and pairs of
// neighbours that a list of merges names become one token, the pair that comes
// first in the list first.
//
// Source: Hugging Face tokenizers 0.22.2 (models/bpe), whose ids ours equal.
//
// Threads: as TokenModel.
#ifndef OUNCE_MODEL_TOKENIZER_BPE_H_
#define OUNCE_MODEL_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "model/tokenizer/token_model.h"
#include "model/tokenizer/vocabulary.h"

namespace ounce::model {

struct BpeParts {
  TokenIds vocabulary;
  // The first one is applied first.
  std::vector<std::pair<std::string, std::string>> merges;
  // For characters without a token; without it they are dropped.
  std::optional<std::string> unknown_token;
  bool fuse_unknown = false;   // one for a run of such characters
  bool byte_fallback = false;  // before that, a token "<0xE4>" for each byte
  bool ignore_merges = false;  // a word that is a token stays whole
  std::string continuing_subword_prefix;  // before all characters but the first
  std::string end_of_word_suffix;         // after the last character
  // Words are spelled in the byte alphabet (byte_alphabet.h); the model takes
  // them as bytes if it can.
  bool byte_level = false;
};

class Bpe final : public TokenModel {
 public:
  // Errors: kInvalidArgument, with the reason, when the parts contradict each
  // other or exceed the limits.
  static absl::StatusOr<std::unique_ptr<const Bpe>> Create(
      const BpeParts& parts);

  std::unique_ptr<TokenModel::Encoder> StartEncoding() const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  int64_t resident_bytes() const override;
  bool takes_bytes() const override { return takes_bytes_; }

 private:
  struct Merge {
    uint32_t rank = 0;
    int32_t id = -1;  // of the token that results
  };
  class Encoder;

  Bpe() = default;

  // Each fills its part of the members, in this order.
  void SetFirstTokens(const BpeParts& parts);
  absl::Status SetUnknownToken(const BpeParts& parts);
  absl::Status SetMerges(const BpeParts& parts);
  void SetJoints(const BpeParts& parts);

  Vocabulary vocabulary_;
  bool takes_bytes_ = false;
  bool ignore_merges_ = false;
  bool fuse_unknown_ = false;
  std::string prefix_;
  std::string suffix_;
  int32_t unknown_id_ = -1;  // -1: unknown characters are dropped
  // Tokens of one character by its code point, of one byte by the byte if the
  // model takes bytes.
  absl::flat_hash_map<char32_t, int32_t> character_ids_;
  std::array<int32_t, 256> byte_ids_ = {};  // -1: no token
  bool has_all_bytes_ = false;
  // The tokens "<0x00>" to "<0xFF>" if there is a byte fallback; -1: none.
  std::array<int32_t, 256> fallback_ids_ = {};
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by left << 32 | right
  std::vector<int32_t> merged_ids_;              // by rank
  // Filled only for ignore_merges when the model takes bytes: the bytes of
  // every token of the vocabulary.
  absl::flat_hash_map<std::string, int32_t> whole_words_;
  // Pairs of characters, left << 32 | right, that stand side by side in some
  // token that merges make. Between two others no merge ever happens, so a long
  // word may be cut there. Nothing if that can't be said of this model.
  std::optional<absl::flat_hash_set<uint64_t>> joints_;
};

// Adds the merge "a b"; false if that is not two tokens with a space between.
bool AddMerge(std::string_view text, BpeParts& parts);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_BPE_H_
