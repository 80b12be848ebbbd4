// A text through a version of a model, to see how well it is predicted, beside
// those who are served: in steps no longer than a chunk of a prompt beside
// others, shorter ones when engines are busy, and behind them (StepTurns).
#ifndef OUNCE_SERVER_ENGINE_TEXT_EVALUATION_H_
#define OUNCE_SERVER_ENGINE_TEXT_EVALUATION_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/causal_lm.h"
#include "model/perplexity.h"
#include "server/engine/float_pieces.h"
#include "server/engine/served_task.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/text_evaluator.h"

namespace ounce::server {

// What a version's logits say of a text, and how far they are from those of the
// checkpoint's floats, if they were compared.
struct TextScore {
  model::Perplexity perplexity;
  model::Perplexity float_perplexity;
  double sum_kl = 0;         // over the counted tokens
  int64_t num_same_top = 0;  // of them
};

// Texts as a tokenizer made them, one after another.
struct TokenizedTexts {
  std::vector<int32_t> ids;
  std::vector<int64_t> lengths;  // tokens of each
};

// What EvaluateTokens takes of memory while it runs. Of logits it is 32 MiB, or
// a row for each of 16 tokens; the same once more, and hidden states of a
// window or 16 MiB, if the version is compared with `floats`, which may be
// null.
MemoryNeed NeedToEvaluate(const EngineContext& context,
                          const model::CausalLm& model, int64_t window,
                          const FloatPieces* floats);

// `progress` is called between steps; an error from it ends the work. With
// `floats` the windows go through the float network piece by piece, as many at
// a time as their hidden states have room. No window has tokens of two texts.
// Requires at least one text, and of each at least two tokens, all in the
// model's vocabulary, and what WindowAt does, with a window of at most the
// model's positions; that `floats` are of the same checkpoint. `method` is the
// version's.
// Errors: NotFinite's if logits are not; kResourceExhausted; those of
//   FloatPieces.
absl::StatusOr<TextScore> EvaluateTokens(
    const EngineContext& context, const model::CausalLm& model,
    absl::string_view method, const TokenizedTexts& texts, int64_t window,
    int64_t stride, FloatPieces* floats,
    const std::function<absl::Status(const EvaluateUpdate&)>& progress);

// Shows `observer` what the layers of the float network read on the beginning
// of the first text. Takes no more memory than EvaluateTokens with `floats`.
// Requires and errors as EvaluateTokens.
absl::Status ObserveFloats(const EngineContext& context,
                           const TokenizedTexts& texts, int64_t window,
                           int64_t max_tokens, FloatPieces& floats,
                           model::LinearObserver& observer,
                           const std::function<absl::Status()>& progress);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_TEXT_EVALUATION_H_
