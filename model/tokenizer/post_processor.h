// The post-processor: ids that stand around every text, such as BOS and EOS.
//
// Source: Hugging Face tokenizers 0.22.2, processors/, for a single text and
// with special tokens.
#ifndef OUNCE_MODEL_TOKENIZER_POST_PROCESSOR_H_
#define OUNCE_MODEL_TOKENIZER_POST_PROCESSOR_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

struct IdsAround {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
};

// The same as tokens, whose ids may not be known yet; nothing: none.
struct TokensAround {
  std::optional<std::string> before;
  std::optional<std::string> after;
};

// What "post_processor" of a tokenizer.json describes; null: nothing.
// Errors: kInvalidArgument for what is malformed, kUnimplemented for what is
// unknown; both name the part.
absl::StatusOr<IdsAround> ReadPostProcessor(
    const nlohmann::json* post_processor);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_POST_PROCESSOR_H_
