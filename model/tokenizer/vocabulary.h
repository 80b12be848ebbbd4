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

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
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
  int32_t num_tokens() const { return static_cast<int32_t>(ids_.size()); }

 private:
  struct Span {
    uint32_t begin = 0;
    uint32_t end = 0;  // one more than its end in text_; 0: no token
  };

  std::string text_;         // all tokens, one after the other
  std::vector<Span> spans_;  // by id
  absl::flat_hash_map<std::string, int32_t> ids_;
};

// Reads {"token": id, ...}. Errors: kInvalidArgument, beginning with `name`,
// for an id that is none.
absl::StatusOr<TokenIds> ReadTokenIds(std::string_view name,
                                      const nlohmann::json& object);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_VOCABULARY_H_
