#include "server/engine/text_evaluation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mapped_memory.h"
#include "base/status_macros.h"
#include "model/layers/kv_cache.h"
#include "quant/scratch.h"

namespace ounce::server {
namespace {

// Fewer would not be worth a pass over the weights.
constexpr int64_t kShortStep = 16;
constexpr int64_t kMaxLogitBytes = int64_t{32} << 20;

// Rows of logits begin at multiples of 64 bytes.
int64_t LogitStride(int64_t vocab_size) { return (vocab_size + 15) / 16 * 16; }

int64_t LogitBytes(const model::CausalLm& model, int64_t rows) {
  return rows * LogitStride(model.shape().vocab_size) *
         static_cast<int64_t>(sizeof(float));
}

int64_t KvBlocks(int64_t window) {
  return (window + model::kKvBlockTokens - 1) / model::kKvBlockTokens;
}

// Tokens of a step, at most.
int64_t LongStep(const EngineContext& context, const model::CausalLm& model) {
  return std::clamp(
      kMaxLogitBytes / LogitBytes(model, 1), kShortStep,
      std::max(kShortStep,
               context.options.scheduler.max_prefill_tokens_beside_decode));
}

}  // namespace

MemoryNeed NeedToEvaluate(const EngineContext& context,
                          const model::CausalLm& model, int64_t window) {
  const int64_t rows = LongStep(context, model);
  MemoryNeed need;
  need[MemoryShare::kKvCache] =
      KvBlocks(window) * model.shape().kv.bytes_per_block();
  need[MemoryShare::kScratch] = static_cast<int64_t>(model.ScratchBytes(
                                    rows, rows, context.pool.num_threads())) +
                                LogitBytes(model, rows);
  return need;
}

absl::StatusOr<model::Perplexity> EvaluateTokens(
    const EngineContext& context, const model::CausalLm& model,
    absl::Span<const int32_t> tokens, int64_t window, int64_t stride,
    const std::function<absl::Status(const EvaluateUpdate&)>& progress) {
  const model::CausalLmShape& shape = model.shape();
  const int64_t num_tokens = static_cast<int64_t>(tokens.size());
  const int64_t long_step = LongStep(context, model);
  ASSIGN_OR_RETURN(quant::Scratch scratch,
                   quant::Scratch::Create(model.ScratchBytes(
                       long_step, long_step, context.pool.num_threads())));
  ASSIGN_OR_RETURN(const MappedMemory logit_memory,
                   MappedMemory::Create(LogitBytes(model, long_step)));
  ASSIGN_OR_RETURN(model::KvCache cache,
                   model::KvCache::Create(shape.kv, KvBlocks(window)));
  std::vector<int32_t> blocks(cache.num_blocks());
  std::iota(blocks.begin(), blocks.end(), 0);
  std::vector<double> costs(long_step);

  // A window's last token predicts nothing that counts.
  EvaluateUpdate update;
  model::TextWindow next;
  for (int64_t first = 0; !next.is_last; first += stride) {
    next = model::WindowAt(first, num_tokens, window, stride);
    update.tokens_total += next.tokens - 1;
  }

  model::Perplexity result;
  StepTurns::Behind turns(context.turns);
  next = {};
  for (int64_t first = 0; !next.is_last; first += stride) {
    next = model::WindowAt(first, num_tokens, window, stride);
    const int64_t end = next.tokens - 1;
    const int64_t first_row = end - next.counted;  // whose logits count
    for (int64_t position = 0; position < end;) {
      RETURN_IF_ERROR(progress(update));
      const bool busy = turns.Begin();
      const int64_t rows =
          std::min(busy ? kShortStep : long_step, end - position);
      const int64_t skipped =
          std::clamp<int64_t>(first_row - position, 0, rows);
      const model::SequenceSlice slice = {
          .token_ids = tokens.subspan(first + position, rows),
          .position = position,
          .kv_blocks =
              absl::MakeConstSpan(blocks).first(KvBlocks(position + rows)),
          .num_logits = rows - skipped};
      const quant::Matrix logits = {
          reinterpret_cast<float*>(logit_memory.data()), slice.num_logits,
          shape.vocab_size, LogitStride(shape.vocab_size)};
      {
        MutexLock lease(&context.pool.lease());
        quant::ScratchScope scope(scratch);
        model.Forward({&slice, 1}, cache, model.RunOn(context.pool, scratch),
                      logits);
        context.pool.ParallelFor(slice.num_logits, [&](int64_t row, int) {
          costs[row] = model::NegativeLogLikelihood(
              {logits.row(row), static_cast<size_t>(shape.vocab_size)},
              tokens[first + position + skipped + row + 1]);
        });
      }
      turns.End();
      for (int64_t row = 0; row < slice.num_logits; ++row) {
        const int64_t token = first + position + skipped + row + 1;
        if (std::isnan(costs[row])) {
          return absl::InternalError(absl::StrCat(
              "the model's logits for token ", token, " are not numbers"));
        }
        result.Add(token, costs[row]);
      }
      position += rows;
      update.tokens_done += rows;
    }
  }
  return result;
}

}  // namespace ounce::server
