#include "model/tokenizer/vocabulary.h"

#include <algorithm>
#include <utility>

#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

absl::StatusOr<Vocabulary> Vocabulary::Create(const TokenIds& tokens) {
  Vocabulary made;
  made.ids_.reserve(tokens.size());
  int32_t size = 0;
  size_t bytes = 0;
  for (const auto& [token, id] : tokens) {
    if (id < 0 || id >= kMaxVocabularySize) {
      return absl::InvalidArgumentError(
          StrCat("the id of token ", Quoted(token), " must be from 0 to ",
                 kMaxVocabularySize - 1, ", is ", id));
    }
    if (!made.ids_.emplace(token, id).second) {
      return absl::InvalidArgumentError(
          StrCat("token ", Quoted(token), " comes twice"));
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
  for (const auto& [token, id] : tokens) {
    Span& span = made.spans_[id];
    if (span.end != 0) {
      return absl::InvalidArgumentError(
          StrCat("tokens ", Quoted(*made.Token(id)), " and ", Quoted(token),
                 " have the same id ", id));
    }
    span.begin = static_cast<uint32_t>(made.text_.size());
    made.text_ += token;
    span.end = static_cast<uint32_t>(made.text_.size()) + 1;
  }
  return made;
}

std::optional<int32_t> Vocabulary::Id(std::string_view token) const {
  const auto found = ids_.find(ToAbsl(token));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
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
