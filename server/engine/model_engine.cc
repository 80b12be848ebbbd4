#include "server/engine/model_engine.h"

#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/interlude.h"
#include "base/mapped_memory.h"
#include "base/status_macros.h"
#include "model/causal_lm.h"
#include "quant/scratch.h"
#include "server/engine/sliced_turn.h"

namespace ounce::server {
namespace {

// Tokens. Those that only decode are not asked after each task whether others
// wait: they take about as long as a slice of a longer one.
constexpr int64_t kShortStep = 16;

class ModelEngine final : public Engine {
 public:
  ModelEngine(EngineInfo info, std::shared_ptr<const model::Model> model,
              std::shared_ptr<model::KvCache> cache, quant::Scratch scratch,
              MappedMemory logits, ThreadPool& pool, StepTurns& turns,
              const Clock& clock)
      : info_(std::move(info)),
        model_(std::move(model)),
        cache_(std::move(cache)),
        pool_(pool),
        turns_(turns),
        clock_(clock),
        scratch_(std::move(scratch)),
        logits_(std::move(logits)) {
    slices_.reserve(info_.max_step_logits);
  }

  const EngineInfo& info() const override { return info_; }

  absl::Status Step(absl::Span<const StepSlice> slices,
                    std::vector<absl::Span<const float>>* logits) override {
    const int64_t stride = LogitStride(info_.vocab_size);
    auto* const rows = reinterpret_cast<float*>(logits_.data());
    int64_t num_tokens = 0;
    int64_t num_logits = 0;
    slices_.clear();
    logits->clear();
    for (const StepSlice& slice : slices) {
      slices_.push_back({slice.token_ids, slice.position, slice.kv_blocks,
                         slice.wants_logits ? 1 : 0});
      num_tokens += static_cast<int64_t>(slice.token_ids.size());
      if (!slice.wants_logits) continue;
      logits->push_back(
          {rows + num_logits * stride, static_cast<size_t>(info_.vocab_size)});
      ++num_logits;
    }
    OUNCE_CHECK(num_tokens <= info_.max_step_tokens &&
                    num_logits <= info_.max_step_logits,
                "a step larger than the engine was made for");
    SlicedTurn turn(pool_, turns_, clock_);
    std::optional<ScopedInterlude> others;
    if (num_tokens > kShortStep) others.emplace(turn);
    quant::ScratchScope scope(scratch_);
    model_->causal_lm()->Forward(slices_, *cache_,
                                 model_->RunOn(pool_, scratch_),
                                 {rows, num_logits, info_.vocab_size, stride});
    return absl::OkStatus();
  }

  void ReleaseBlocks(absl::Span<const int32_t> blocks) override {
    for (const int32_t block : blocks) cache_->Release(block);
  }

 private:
  const EngineInfo info_;
  const std::shared_ptr<const model::Model> model_;
  const std::shared_ptr<model::KvCache> cache_;
  ThreadPool& pool_;
  StepTurns& turns_;
  const Clock& clock_;
  quant::Scratch scratch_;
  const MappedMemory logits_;
  std::vector<model::SequenceSlice> slices_;
};

}  // namespace

int64_t LogitStride(int64_t vocab_size) { return (vocab_size + 15) / 16 * 16; }

size_t EngineScratchBytes(const ModelEngineOptions& options,
                          const model::CausalLm& causal_lm, int threads) {
  return causal_lm.ScratchBytes(options.max_step_tokens,
                                options.max_step_logits, threads) +
         options.max_step_logits * LogitStride(causal_lm.shape().vocab_size) *
             sizeof(float);
}

absl::StatusOr<std::unique_ptr<Engine>> CreateModelEngine(
    const ModelEngineOptions& options,
    std::shared_ptr<const model::Model> model,
    std::shared_ptr<model::KvCache> cache, ThreadPool& pool, StepTurns& turns,
    const Clock& clock) {
  const model::CausalLm& causal_lm = *model->causal_lm();
  const model::CausalLmShape& shape = causal_lm.shape();
  EngineInfo info;
  info.model_version = options.version;
  info.method = options.method;
  info.vocab_size = shape.vocab_size;
  info.max_positions = shape.max_positions;
  info.eos_ids = shape.eos_ids;
  info.suppressed_ids = shape.generation.suppressed_ids;
  info.kv_block_tokens = model::kKvBlockTokens;
  info.kv_block_bytes = cache->shape().bytes_per_block();
  info.num_kv_blocks = cache->num_blocks();
  info.max_step_tokens = options.max_step_tokens;
  info.max_step_logits = options.max_step_logits;

  ASSIGN_OR_RETURN(quant::Scratch scratch,
                   quant::Scratch::Create(causal_lm.ScratchBytes(
                       options.max_step_tokens, options.max_step_logits,
                       pool.num_threads())));
  ASSIGN_OR_RETURN(
      MappedMemory logits,
      MappedMemory::Create(options.max_step_logits *
                           LogitStride(shape.vocab_size) * sizeof(float)));
  return std::make_unique<ModelEngine>(std::move(info), std::move(model),
                                       std::move(cache), std::move(scratch),
                                       std::move(logits), pool, turns, clock);
}

}  // namespace ounce::server
