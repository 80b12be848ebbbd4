// The tokens of a model: text to id and back.
//
// Threads: const after Create.
#ifndef OUNCE_MODEL_TOKENIZER_VOCABULARY_H_
#define OUNCE_MODEL_TOKENIZER_VOCABULARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// Ids from 0 to one less. The largest published vocabularies have about a
// quarter of a million.
inline constexpr int32_t kMaxVocabularySize = 1 << 22;

// Tokens with their ids, in any order.
using TokenIds = std::vector<std::pair<std::string, int32_t>>;

class Vocabulary {
 public:
  // Errors: kInvalidArgument, with the reason: an id outside the limits, a
  // token or an id that comes twice.
  static absl::StatusOr<Vocabulary> Create(const TokenIds& tokens);

  std::optional<int32_t> Id(std::string_view token) const;

  // Nothing for an id without a token. Valid as long as the vocabulary.
  std::optional<std::string_view> Token(int32_t id) const {
    if (id < 0 || id >= size() || spans_[id].end == 0) return std::nullopt;
    return std::string_view(text_).substr(
        spans_[id].begin, spans_[id].end - 1 - spans_[id].begin);
  }

  // One more than the largest id.
  int32_t size() const { return static_cast<int32_t>(spans_.size()); }
  // Less than size() where ids were left out.
  int32_t num_tokens() const { return num_tokens_; }

  // What it takes of the heap.
  int64_t resident_bytes() const;

 private:
  struct Span {
    uint32_t begin = 0;
    uint32_t end = 0;  // one more than its end in text_; 0: no token
  };

  // Of slots_: where the token is, or where it would be.
  size_t SlotOf(std::string_view token) const;

  std::string text_;         // all tokens, one after the other
  std::vector<Span> spans_;  // by id
  // A hash table of ids that holds no token twice: each lies in the slot of its
  // token's hash, or in the next that was free. -1: free, as half of them are
  // at least; their number is a power of two.
  std::vector<int32_t> slots_;
  int32_t num_tokens_ = 0;
};

// Reads {"token": id, ...}. Errors: kInvalidArgument, beginning with `name`,
// for an id that is none.
absl::StatusOr<TokenIds> ReadTokenIds(std::string_view name,
                                      const nlohmann::json& object);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_VOCABULARY_H_
