#include "server/engine/served_causal_lm.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/byte_size.h"
#include "base/status_macros.h"
#include "model/causal_lm.h"
#include "model/layers/kv_cache.h"
#include "model/tokenizer/tokenizer.h"
#include "server/engine/evaluations.h"
#include "server/engine/float_pieces.h"
#include "server/engine/model_engine.h"
#include "server/engine/text_quality.h"
#include "server/engine/versioned_model.h"
#include "server/scheduler/refusal.h"
#include "spdlog/spdlog.h"

namespace ounce::server {
namespace {

// A model's keys and values, all versions together, and their share of the
// server's memory: what one request needs is reserved, more is taken as it is
// used.
struct KvMemory {
  KvMemory(MemoryBudget& budget, MemoryBudget::Reservation floor_share,
           model::KvCache kv_cache)
      : floor(std::move(floor_share)),
        use(budget, MemoryShare::kKvCache, floor.need().total()),
        cache(std::move(kv_cache)) {}

  const MemoryBudget::Reservation floor;
  MemoryUse use;  // the engine thread's, but for what others have given up
  model::KvCache cache;
};

std::unique_ptr<SchedulerObserver> Observe(const EngineContext& context,
                                           const std::string& model) {
  MutexLock lock(&context.observer_mutex);
  return context.observer.ObserveScheduler(model);
}

ModelEngineOptions EngineOptions(const EngineContext& context) {
  ModelEngineOptions options;
  options.max_step_tokens = context.options.scheduler.max_step_tokens;
  options.max_step_logits = context.options.scheduler.max_running;
  return options;
}

absl::StatusOr<std::shared_ptr<Engine>> MakeEngine(
    const EngineContext& context, int64_t version, BuiltVersion built,
    const std::shared_ptr<KvMemory>& kv) {
  ModelEngineOptions options = EngineOptions(context);
  options.version = version;
  options.method = built.report.method;
  return CreateModelEngine(options, std::move(built.model),
                           std::shared_ptr<model::KvCache>(kv, &kv->cache),
                           context.pool, context.turns, context.clock);
}

// Blocks for one request of all positions.
int64_t BlocksPerSequence(const model::CausalLmShape& shape) {
  return (shape.max_positions + model::kKvBlockTokens - 1) /
         model::kKvBlockTokens;
}

GenerateScheduler::Options SchedulerOptions(
    const EngineContext& context, const std::shared_ptr<KvMemory>& kv) {
  GenerateScheduler::Options options = context.options.scheduler;
  // Not held: the memory goes with the engines.
  options.may_hold_kv_bytes = [weak =
                                   std::weak_ptr<KvMemory>(kv)](int64_t bytes) {
    const std::shared_ptr<KvMemory> memory = weak.lock();
    return memory == nullptr || memory->use.Resize(bytes);
  };
  options.prefix_cache.on_bytes =
      [weak = std::weak_ptr<KvMemory>(kv)](int64_t more_bytes) {
        const std::shared_ptr<KvMemory> memory = weak.lock();
        if (memory != nullptr) memory->use.ChangeKept(more_bytes);
      };
  return options;
}

// What the model's authors say about generation leaves tokens to generate; what
// is not done as they say is told.
absl::Status CheckGeneration(const std::string& name, const std::string& folder,
                             const model::CausalLmShape& shape,
                             int64_t num_tokens) {
  const std::vector<int32_t>& suppressed = shape.generation.suppressed_ids;
  num_tokens = std::min(num_tokens, shape.vocab_size);
  if (std::lower_bound(suppressed.begin(), suppressed.end(), num_tokens) -
          suppressed.begin() ==
      num_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        folder,
        "/generation_config.json: 'suppress_tokens' must leave a token to "
        "generate, holds all ",
        num_tokens));
  }
  if (!shape.generation.not_honoured.empty()) {
    spdlog::warn(
        "model {}: generation_config.json asks for what this server does not "
        "do, so its texts may differ from transformers': {}",
        name, absl::StrJoin(shape.generation.not_honoured, ", "));
  }
  return absl::OkStatus();
}

class ServedCausalLm final : public VersionedModel, public TextEvaluator {
 public:
  ServedCausalLm(const EngineContext& context, ModelInfo info,
                 const BuiltVersion& built,
                 std::shared_ptr<const ServedTask> served_task,
                 std::shared_ptr<const model::Tokenizer> tokenizer,
                 std::shared_ptr<KvMemory> kv,
                 std::unique_ptr<SchedulerObserver> observer)
      : VersionedModel(std::move(info), built, std::move(served_task)),
        context_(context),
        generation_(built.model->causal_lm()->shape().generation),
        tokenizer_(std::move(tokenizer)),
        observer_(std::move(observer)),
        kv_(std::move(kv)) {}

  ~ServedCausalLm() override { ServedCausalLm::Empty(); }

  // Once, before anything else. Errors: as GenerateScheduler::Create.
  absl::Status Start(std::weak_ptr<VersionMemory> memory,
                     std::shared_ptr<Engine> engine) {
    NoteVersion(1, engine->info().method, std::move(memory), engine);
    MutexLock lock(&mu_);
    ASSIGN_OR_RETURN(scheduler_,
                     GenerateScheduler::Create(SchedulerOptions(context_, kv_),
                                               std::move(engine), *tokenizer_,
                                               context_.clock, *observer_));
    kv_->use.SetGiveUp(
        [scheduler = scheduler_.get(), cache = &kv_->cache](int64_t bytes) {
          return scheduler->GiveUpCached(bytes,
                                         [&](absl::Span<const int32_t> blocks) {
                                           for (const int32_t block : blocks)
                                             cache->Release(block);
                                         });
        });
    task_ = TextGeneration{scheduler_.get(), tokenizer_.get(), &generation_,
                           /*evaluator=*/this};
    return absl::OkStatus();
  }

  const TaskInterface& task() const override { return task_; }

  void Drain(absl::Time deadline) override {
    evaluations_.End();
    scheduler_->Drain(deadline);
    evaluations_.AwaitEnd();
  }

  void Empty() override {
    MutexLock lock(&mu_);
    if (kv_ != nullptr) kv_->use.SetGiveUp(nullptr);
    kv_ = nullptr;
  }

  absl::StatusOr<TextQuality> Evaluate(
      const EvaluateParams& params,
      const std::function<absl::Status(const EvaluateUpdate&)>& progress)
      override {
    const Evaluations::Running running(evaluations_);
    ASSIGN_OR_RETURN(
        TextQuality quality,
        Measure(params, [&](const EvaluateUpdate& update) -> absl::Status {
          RETURN_IF_ERROR(running.CheckWanted());
          return progress(update);
        }));
    NoteQuality(quality);
    MutexLock lock(&context_.observer_mutex);
    context_.observer.OnEvaluated(info().name, quality);
    return quality;
  }

 private:
  absl::StatusOr<TextQuality> Measure(
      const EvaluateParams& params,
      const std::function<absl::Status(const EvaluateUpdate&)>& proceed) {
    RETURN_IF_ERROR(proceed({}));
    ASSIGN_OR_RETURN(const Pinned pinned, Pin());
    const model::CausalLm& causal_lm = *pinned.model->causal_lm();
    ASSIGN_OR_RETURN(
        const TextSamples samples,
        TokenizeSamples(*tokenizer_, {&params.text, 1}, /*several=*/false,
                        "text", causal_lm.shape().vocab_size, params.window,
                        params.stride, [&] { return proceed({}); }));
    std::unique_ptr<FloatPieces> floats;
    if (params.compare_with_floats) {
      ASSIGN_OR_RETURN(floats, FloatPieces::Open(folder(), fingerprint(),
                                                 [&] { return proceed({}); }));
    }
    ASSIGN_OR_RETURN(
        const MemoryBudget::Reservation memory,
        context_.memory.Reserve(
            NeedToEvaluate(context_, causal_lm, params.window, floats.get()),
            absl::StrCat("evaluating '", info().name, "'")));
    ASSIGN_OR_RETURN(
        TextQuality quality,
        MeasureSamples(context_, causal_lm, pinned.method, *tokenizer_, samples,
                       floats.get(), proceed));
    quality.version = pinned.version;
    quality.text_name = params.text_name;
    return quality;
  }

  absl::Status SetEngine(int64_t version, BuiltVersion built) override {
    std::shared_ptr<KvMemory> kv;
    {
      MutexLock lock(&mu_);
      kv = kv_;
    }
    const std::weak_ptr<VersionMemory> memory = built.memory;
    ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine,
                     MakeEngine(context_, version, std::move(built), kv));
    NoteVersion(version, engine->info().method, memory, engine);
    scheduler_->SetEngine(std::move(engine));
    return absl::OkStatus();
  }
  SchedulerStats stats() const override { return scheduler_->stats(); }

  const EngineContext& context_;
  // The same for all versions, which come from one checkpoint.
  const model::GenerationDefaults generation_;
  const std::shared_ptr<const model::Tokenizer> tokenizer_;
  const std::unique_ptr<SchedulerObserver> observer_;

  Mutex mu_;
  std::shared_ptr<KvMemory> kv_ ABSL_GUARDED_BY(mu_);

  Evaluations evaluations_;

  TaskInterface task_ = TextGeneration();         // since Start
  std::unique_ptr<GenerateScheduler> scheduler_;  // first to go
};

class TextTask final : public ServedTask {
 public:
  explicit TextTask(std::shared_ptr<const model::Tokenizer> tokenizer)
      : tokenizer_(std::move(tokenizer)) {}

  MemoryNeed need() const override {
    MemoryNeed need;
    need[MemoryShare::kTokenizers] = tokenizer_->resident_bytes();
    return need;
  }

  MemoryNeed NeedOfVersion(const EngineContext& context,
                           const model::Model& model,
                           const model::LoadReport& report) const override {
    MemoryNeed need;
    need[MemoryShare::kWeights] = report.resident_bytes;
    need[MemoryShare::kScratch] = static_cast<int64_t>(
        EngineScratchBytes(EngineOptions(context), *model.causal_lm(),
                           context.pool.num_threads()));
    return need;
  }

  // With a KV cache for one request of the most positions.
  MemoryNeed NeedOfNewModel(const EngineContext& context,
                            const model::Model& model,
                            const model::LoadReport& report) const override {
    MemoryNeed need = NeedOfVersion(context, model, report);
    const model::CausalLmShape& shape = model.causal_lm()->shape();
    const int64_t block_bytes =
        KvShapeOf(context, *model.causal_lm()).bytes_per_block();
    need[MemoryShare::kKvCache] =
        std::min(context.options.kv_cache_bytes / block_bytes,
                 BlocksPerSequence(shape)) *
        block_bytes;
    return need;
  }

  absl::StatusOr<std::shared_ptr<VersionedModel>> Serve(
      const EngineContext& context, const std::string& name,
      const std::string& path, BuiltVersion built) const override;

  const model::Tokenizer* tokenizer() const override {
    return tokenizer_.get();
  }

 private:
  const std::shared_ptr<const model::Tokenizer> tokenizer_;
};

absl::StatusOr<std::shared_ptr<VersionedModel>> TextTask::Serve(
    const EngineContext& context, const std::string& name,
    const std::string& path, BuiltVersion built) const {
  const model::CausalLmShape shape = built.model->causal_lm()->shape();
  // It may have more tokens than the model, as after an added pad token:
  // whoever sends one of those is told.
  if (tokenizer_->size() > shape.vocab_size) {
    spdlog::warn(
        "model {}: the tokenizer has {} tokens, the model {}; texts with one "
        "of the others are refused",
        name, tokenizer_->size(), shape.vocab_size);
  }
  if (tokenizer_->size() < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(built.folder, ": the tokenizer has no tokens"));
  }
  RETURN_IF_ERROR(
      CheckGeneration(name, built.folder, shape, tokenizer_->size()));

  const int64_t kv_cache_bytes = context.options.kv_cache_bytes;
  const model::KvShape kv_shape = KvShapeOf(context, *built.model->causal_lm());
  const int64_t block_bytes = kv_shape.bytes_per_block();
  int64_t num_blocks = std::min(
      kv_cache_bytes / block_bytes,
      context.options.scheduler.max_running * BlocksPerSequence(shape));
  if (num_blocks < 1) {
    return absl::FailedPreconditionError(absl::StrCat(
        "--kv_cache_bytes must be at least ", block_bytes,
        ", one block, for model '", name, "', and ",
        BlocksPerSequence(shape) * block_bytes,
        " for a request of all its positions; it is ", kv_cache_bytes));
  }
  const std::shared_ptr<VersionMemory> memory = built.memory.lock();
  MemoryNeed floor;
  floor[MemoryShare::kKvCache] =
      memory->reservation.need()[MemoryShare::kKvCache];
  MemoryBudget::Reservation floor_share = memory->reservation.Split(floor);
  // What it could have if it were alone.
  const int64_t most_blocks = (context.memory.usable_bytes() - need().total() -
                               memory->reservation.need().total()) /
                              block_bytes;
  if (most_blocks < num_blocks) {
    num_blocks = std::max(most_blocks, floor.total() / block_bytes);
    spdlog::info(
        "model {}: its KV cache may grow to {} and not to {}, since memory is "
        "limited",
        name, FormatByteSize(num_blocks * block_bytes),
        FormatByteSize(kv_cache_bytes));
  }
  ASSIGN_OR_RETURN(model::KvCache cache,
                   model::KvCache::Create(kv_shape, num_blocks));
  const auto kv = std::make_shared<KvMemory>(
      context.memory, std::move(floor_share), std::move(cache));

  ModelInfo info = NewModelInfo(name, path, built);
  info.max_positions = shape.max_positions;
  info.vocabulary_size = shape.vocab_size;
  info.tasks = {Task::kGenerate};
  info.kv_cache_dtype = model::KvTypeName(kv_shape.type);
  ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine,
                   MakeEngine(context, 1, built, kv));
  const auto served = std::make_shared<ServedCausalLm>(
      context, std::move(info), built, shared_from_this(), tokenizer_, kv,
      Observe(context, name));
  RETURN_IF_ERROR(served->Start(built.memory, std::move(engine)));
  return served;
}

}  // namespace

MemoryNeed NeedToReadTextGeneration(const std::string& folder) {
  MemoryNeed need;
  need[MemoryShare::kTokenizers] = model::Tokenizer::MostLoadBytes(folder);
  return need;
}

absl::StatusOr<std::shared_ptr<ServedTask>> ReadTextGeneration(
    const model::Model& /*model*/, const std::string& folder) {
  ASSIGN_OR_RETURN(std::shared_ptr<const model::Tokenizer> tokenizer,
                   model::Tokenizer::Load(folder));
  return std::make_shared<TextTask>(std::move(tokenizer));
}

}  // namespace ounce::server
