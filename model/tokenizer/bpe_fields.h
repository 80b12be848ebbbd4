// Vocabulary and merges as the files of either form write them.
#ifndef OUNCE_MODEL_TOKENIZER_BPE_FIELDS_H_
#define OUNCE_MODEL_TOKENIZER_BPE_FIELDS_H_

#include <string_view>

#include "absl/status/status.h"
#include "model/tokenizer/byte_level_bpe.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// Adds the tokens of `vocabulary`, an object {"token": id, ...}.
// Errors: kInvalidArgument, beginning with `name`, for an id that is none.
absl::Status AddVocabulary(std::string_view name,
                           const nlohmann::json& vocabulary, BpeParts& parts);

// Adds the merge "a b"; false if that is not two tokens with a space between.
bool AddMerge(std::string_view text, BpeParts& parts);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_BPE_FIELDS_H_
