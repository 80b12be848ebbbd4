#include "server/engine/served_causal_lm.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/causal_lm.h"
#include "model/layers/kv_cache.h"
#include "quant/compute.h"
#include "server/engine/model_engine.h"
#include "spdlog/spdlog.h"

namespace ounce::server {
namespace {

absl::StatusOr<std::shared_ptr<Engine>> MakeEngine(
    const EngineContext& context, int64_t version, BuiltVersion built,
    std::shared_ptr<model::KvCache> kv) {
  ModelEngineOptions options;
  options.version = version;
  options.method = built.report.method;
  options.max_step_tokens = context.options.scheduler.max_step_tokens;
  options.max_step_logits = context.options.scheduler.max_running;
  return CreateModelEngine(options, std::move(built.model), std::move(kv),
                           context.pool, context.turns);
}

class ServedCausalLm final : public VersionedModel {
 public:
  ServedCausalLm(const EngineContext& context, ModelInfo info,
                 std::string folder, CheckpointFingerprint fingerprint,
                 std::shared_ptr<const model::Tokenizer> tokenizer,
                 std::shared_ptr<model::KvCache> kv,
                 std::unique_ptr<SchedulerObserver> observer,
                 std::unique_ptr<GenerateScheduler> scheduler)
      : VersionedModel(std::move(info), std::move(folder),
                       std::move(fingerprint)),
        context_(context),
        tokenizer_(std::move(tokenizer)),
        observer_(std::move(observer)),
        kv_(std::move(kv)),
        scheduler_(std::move(scheduler)) {}

  GenerateScheduler* scheduler() override { return scheduler_.get(); }
  const model::Tokenizer* tokenizer() const override {
    return tokenizer_.get();
  }

  absl::StatusOr<std::shared_ptr<VersionedModel>> ServeBeside(
      const std::string& name, const std::string& path,
      BuiltVersion built) const override {
    return ServeCausalLm(context_, name, path, std::move(built), tokenizer_);
  }

  void Drain(absl::Time deadline) override { scheduler_->Drain(deadline); }

  void Empty() override {
    MutexLock lock(&mu_);
    kv_ = nullptr;
  }

 private:
  absl::Status SetEngine(int64_t version, BuiltVersion built) override {
    std::shared_ptr<model::KvCache> kv;
    {
      MutexLock lock(&mu_);
      kv = kv_;
    }
    ASSIGN_OR_RETURN(
        std::shared_ptr<Engine> engine,
        MakeEngine(context_, version, std::move(built), std::move(kv)));
    scheduler_->SetEngine(std::move(engine));
    return absl::OkStatus();
  }
  SchedulerStats stats() const override { return scheduler_->stats(); }

  const EngineContext& context_;
  const std::shared_ptr<const model::Tokenizer> tokenizer_;
  const std::unique_ptr<SchedulerObserver> observer_;

  Mutex mu_;
  std::shared_ptr<model::KvCache> kv_ ABSL_GUARDED_BY(mu_);

  const std::unique_ptr<GenerateScheduler> scheduler_;  // first to go
};

}  // namespace

absl::StatusOr<std::shared_ptr<VersionedModel>> ServeCausalLm(
    const EngineContext& context, const std::string& name,
    const std::string& path, BuiltVersion built,
    std::shared_ptr<const model::Tokenizer> tokenizer) {
  const model::CausalLmShape shape = built.model->causal_lm()->shape();
  // It may have more tokens than the model, as after an added pad token:
  // whoever sends one of those is told.
  if (tokenizer->size() > shape.vocab_size) {
    spdlog::warn(
        "model {}: the tokenizer has {} tokens, the model {}; texts with one "
        "of "
        "the others are refused",
        name, tokenizer->size(), shape.vocab_size);
  }
  if (tokenizer->size() < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(built.folder, ": the tokenizer has no tokens"));
  }

  const int64_t kv_cache_bytes = context.options.kv_cache_bytes;
  const int64_t block_bytes = shape.kv.bytes_per_block();
  const int64_t blocks_per_sequence =
      (shape.max_positions + model::kKvBlockTokens - 1) / model::kKvBlockTokens;
  const int64_t num_blocks =
      std::min(kv_cache_bytes / block_bytes,
               context.options.scheduler.max_running * blocks_per_sequence);
  if (num_blocks < 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("--kv_cache_bytes ", kv_cache_bytes, " found; model '",
                     name, "' needs at least one block of ", block_bytes,
                     " bytes, and ", blocks_per_sequence * block_bytes,
                     " for a request of all its positions"));
  }
  ASSIGN_OR_RETURN(model::KvCache cache,
                   model::KvCache::Create(shape.kv, num_blocks));
  auto kv = std::make_shared<model::KvCache>(std::move(cache));

  ModelInfo info = NewModelInfo(name, path, built);
  info.max_positions = shape.max_positions;
  info.vocabulary_size = shape.vocab_size;
  info.tasks = {Task::kGenerate};
  info.compute = quant::ComputeName(quant::Compute::kFloat32);
  std::string folder = built.folder;
  CheckpointFingerprint fingerprint = built.fingerprint;
  ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine,
                   MakeEngine(context, 1, std::move(built), kv));
  std::unique_ptr<SchedulerObserver> observer = context.observe_scheduler(name);
  ASSIGN_OR_RETURN(
      std::unique_ptr<GenerateScheduler> scheduler,
      GenerateScheduler::Create(context.options.scheduler, std::move(engine),
                                *tokenizer, context.clock, *observer));
  return std::make_shared<ServedCausalLm>(
      context, std::move(info), std::move(folder), std::move(fingerprint),
      std::move(tokenizer), std::move(kv), std::move(observer),
      std::move(scheduler));
}

}  // namespace ounce::server
