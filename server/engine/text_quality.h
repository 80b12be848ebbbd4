// How well a version predicts texts: from their characters to what is told.
#ifndef OUNCE_SERVER_ENGINE_TEXT_QUALITY_H_
#define OUNCE_SERVER_ENGINE_TEXT_QUALITY_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/causal_lm.h"
#include "model/tokenizer/tokenizer.h"
#include "server/engine/float_pieces.h"
#include "server/engine/served_task.h"
#include "server/engine/text_evaluation.h"
#include "server/scheduler/text_evaluator.h"

namespace ounce::server {

// Texts that are ready to be measured on, and how that is to be done.
struct TextSamples {
  TokenizedTexts tokens;
  int64_t bytes = 0;        // of the texts
  int64_t text_tokens = 0;  // without what the tokenizer puts around them
  std::string bos;          // as in TextQuality
  int64_t window = 0;
  int64_t stride = 0;

  // Tokens that count.
  int64_t counted_tokens() const;
};

// `field` is the request's: of several texts the i-th is field[i] in messages.
// `proceed` is asked while texts are tokenized, at low priority.
// Errors: kInvalidArgument naming the text, for one of fewer than two tokens,
//   or with one that the model does not predict; those of `proceed`.
absl::StatusOr<TextSamples> TokenizeSamples(
    const model::Tokenizer& tokenizer, absl::Span<const std::string> texts,
    bool several, absl::string_view field, int64_t vocab_size, int64_t window,
    int64_t stride, const std::function<absl::Status()>& proceed);

// The version is left to the caller, who has NeedToEvaluate of memory.
// Requires and errors as EvaluateTokens.
absl::StatusOr<TextQuality> MeasureSamples(
    const EngineContext& context, const model::CausalLm& model,
    const std::string& method, const model::Tokenizer& tokenizer,
    const TextSamples& samples, FloatPieces* floats,
    const std::function<absl::Status(const EvaluateUpdate&)>& progress);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_TEXT_QUALITY_H_
