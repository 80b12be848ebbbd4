#include "model/tokenizer/bpe_fields.h"

#include <cstdint>

#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

absl::Status AddVocabulary(std::string_view name,
                           const nlohmann::json& vocabulary, BpeParts& parts) {
  parts.vocabulary.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) {
    if (!id.is_number_unsigned() ||
        id.get<uint64_t>() >= uint64_t{kMaxVocabularySize}) {
      return absl::InvalidArgumentError(
          StrCat(name, ": the id of token ", Quoted(token),
                 " must be from 0 to ", kMaxVocabularySize - 1, ", is ",
                 id.is_structured() ? id.type_name() : id.dump()));
    }
    parts.vocabulary.emplace_back(token, id.get<int32_t>());
  }
  return absl::OkStatus();
}

bool AddMerge(std::string_view text, BpeParts& parts) {
  const size_t space = text.find(' ');
  if (space == text.npos || text.find(' ', space + 1) != text.npos) {
    return false;
  }
  parts.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  return true;
}

}  // namespace ounce::model
