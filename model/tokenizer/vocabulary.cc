#include "model/tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/hash/hash.h"
#include "base/heap_bytes.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

absl::StatusOr<Vocabulary> Vocabulary::Create(const TokenIds& tokens) {
  Vocabulary made;
  int32_t size = 0;
  size_t bytes = 0;
  for (const auto& [token, id] : tokens) {
    if (id < 0 || id >= kMaxVocabularySize) {
      return absl::InvalidArgumentError(
          StrCat("the id of token ", Quoted(token), " must be from 0 to ",
                 kMaxVocabularySize - 1, ", is ", id));
    }
    size = std::max(size, id + 1);
    bytes += token.size();
  }
  if (bytes >= UINT32_MAX) {
    return absl::InvalidArgumentError(
        StrCat("tokens must have less than 4 GiB together, have ", bytes));
  }
  made.text_.reserve(bytes);
  made.spans_.resize(size);
  made.slots_.assign(std::bit_ceil(2 * tokens.size() + 1), -1);
  for (const auto& [token, id] : tokens) {
    int32_t& slot = made.slots_[made.SlotOf(token)];
    if (slot >= 0) {
      return absl::InvalidArgumentError(
          StrCat("token ", Quoted(token), " comes twice"));
    }
    Span& span = made.spans_[id];
    if (span.end != 0) {
      return absl::InvalidArgumentError(
          StrCat("tokens ", Quoted(*made.Token(id)), " and ", Quoted(token),
                 " have the same id ", id));
    }
    span.begin = static_cast<uint32_t>(made.text_.size());
    made.text_ += token;
    span.end = static_cast<uint32_t>(made.text_.size()) + 1;
    slot = id;
    ++made.num_tokens_;
  }
  return made;
}

std::optional<int32_t> Vocabulary::Id(std::string_view token) const {
  const int32_t id = slots_.empty() ? -1 : slots_[SlotOf(token)];
  if (id < 0) return std::nullopt;
  return id;
}

size_t Vocabulary::SlotOf(std::string_view token) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = absl::Hash<absl::string_view>()(ToAbsl(token)) & mask;
  while (slots_[slot] >= 0 && *Token(slots_[slot]) != token) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

int64_t Vocabulary::resident_bytes() const {
  return HeapBytes(text_) + HeapBytes(spans_) + HeapBytes(slots_);
}

absl::StatusOr<TokenIds> ReadTokenIds(std::string_view name,
                                      const nlohmann::json& object) {
  TokenIds tokens;
  tokens.reserve(object.size());
  for (const auto& [token, id] : object.items()) {
    if (!id.is_number_unsigned() ||
        id.get<uint64_t>() >= uint64_t{kMaxVocabularySize}) {
      return absl::InvalidArgumentError(
          StrCat(name, ": the id of token ", Quoted(token),
                 " must be from 0 to ", kMaxVocabularySize - 1, ", is ",
                 id.is_structured() ? id.type_name() : id.dump()));
    }
    tokens.emplace_back(token, id.get<int32_t>());
  }
  return tokens;
}

}  // namespace ounce::model
