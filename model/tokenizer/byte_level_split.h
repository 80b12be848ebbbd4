// The pre-tokenizer ByteLevel: words by GPT-2's rule (word_splitter.h), spelled
// in the byte alphabet.
//
// Source: Hugging Face tokenizers 0.22.2, pre_tokenizers/byte_level.rs.
#ifndef OUNCE_MODEL_TOKENIZER_BYTE_LEVEL_SPLIT_H_
#define OUNCE_MODEL_TOKENIZER_BYTE_LEVEL_SPLIT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

struct ByteLevelOptions {
  bool add_prefix_space = false;  // unless the text begins with one
  bool use_regex = true;          // cut into words first
  bool spell = true;              // else words stay the text's bytes
};

absl::StatusOr<std::unique_ptr<const PreTokenizer>> MakeByteLevelSplit(
    const ByteLevelOptions& options);

// As `step` of a tokenizer.json describes it, but without the spelling.
absl::StatusOr<std::unique_ptr<const PreTokenizer>> MakeUnspelledByteLevelSplit(
    const nlohmann::json& step);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_BYTE_LEVEL_SPLIT_H_
