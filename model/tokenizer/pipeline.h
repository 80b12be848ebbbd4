// A tokenizer made of steps, as tokenizer.json describes it:
//
//   text -> added tokens cut out -> normalizers -> further added tokens cut out
//        -> pre-tokenizers -> model -> ids
//   ids -> tokens -> decoder steps -> text
//
// Source: Hugging Face tokenizers 0.22.2 (tokenizer/mod.rs,
// added_vocabulary.rs), whose ids ours equal. Truncation and padding, which a
// caller may ask the library for, are not applied.
#ifndef OUNCE_MODEL_TOKENIZER_PIPELINE_H_
#define OUNCE_MODEL_TOKENIZER_PIPELINE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "model/tokenizer/added_tokens.h"
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/post_processor.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "model/tokenizer/token_decoder.h"
#include "model/tokenizer/token_model.h"
#include "model/tokenizer/tokenizer.h"

namespace ounce::model {

struct TokenizerParts {
  // Of one content the last one's flags count, but for `special`, which any of
  // them sets. Their ids are not looked at: a token of the vocabulary has that
  // id, others get those from the vocabulary's size on, in this order.
  std::vector<AddedToken> added_tokens;
  Normalizers normalizers;
  PreTokenizers pre_tokenizers;
  std::unique_ptr<const TokenModel> model;
  DecoderSteps decoder;
  // Around every encoded text.
  std::vector<int32_t> ids_before;
  std::vector<int32_t> ids_after;
  // In their place, if given.
  std::optional<TokensAround> tokens_around;
};

// Requires a model.
// Errors: kInvalidArgument, with the reason, when the parts contradict each
// other or exceed the limits.
absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeTokenizer(
    TokenizerParts parts);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_PIPELINE_H_
