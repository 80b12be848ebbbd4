#include "server/engine/loaded_models.h"

#include <malloc.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/byte_size.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "hub/environment.h"
#include "model/checkpoint/checkpoint.h"
#include "model/files/byte_source.h"
#include "model/loader/loader.h"
#include "server/engine/background_thread.h"
#include "server/engine/built_version.h"
#include "server/engine/checkpoint_fingerprint.h"
#include "server/engine/detection_quality.h"
#include "server/engine/float_pieces.h"
#include "server/engine/input_sampler.h"
#include "server/engine/inspection.h"
#include "server/engine/method_list.h"
#include "server/engine/model_download.h"
#include "server/engine/model_roots.h"
#include "server/engine/quality_limits.h"
#include "server/engine/save_root.h"
#include "server/engine/saving.h"
#include "server/engine/step_turns.h"
#include "server/engine/text_evaluation.h"
#include "server/engine/text_quality.h"
#include "server/engine/versioned_model.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/refusal.h"
#include "spdlog/spdlog.h"

namespace ounce::server {
namespace {

// A caller that is told nothing new for so long is told the old again, and may
// say that it is gone.
constexpr absl::Duration kProgressInterval = absl::Seconds(1);

// How often a quantization that waits for a version to end looks again.
constexpr absl::Duration kVersionPoll = absl::Milliseconds(100);

absl::Status CheckName(std::string_view name) {
  if (IsModelName(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "a model's name must be ", kModelNameRule, ", is ", model::Quoted(name)));
}

std::string StateName(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return "loading";
    case ModelState::kReady:
      return "ready";
    case ModelState::kQuantizing:
      return "being quantized";
    case ModelState::kUnloading:
      return "being unloaded";
  }
  return "";
}

absl::Status StillLoading(std::string_view name) {
  return AboutModel(Refusal(Reason::kModelLoading,
                            absl::StrCat("model ", model::Quoted(name),
                                         " is still loading; try again later")),
                    {name.data(), name.size()});
}

absl::Status Busy(const std::string& name, ModelState state) {
  return AboutModel(
      Refusal(Reason::kModelBusy,
              absl::StrCat("model '", name, "' is ", StateName(state),
                           "; try again when that is done")),
      name);
}

// Steps must be able to hold a token of every running sequence.
CatalogOptions Normalized(CatalogOptions options) {
  GenerateScheduler::Options& scheduler = options.scheduler;
  scheduler.max_step_tokens =
      std::max(scheduler.max_step_tokens, scheduler.max_running);
  return options;
}

// The texts of a quantization, ready for a model of this shape.
absl::StatusOr<TextSamples> ReadTexts(
    const ServedTask& task, const model::CausalLmShape& shape,
    const QuantizeParams& params,
    const std::function<absl::Status()>& proceed) {
  const int64_t window = DefaultWindow(shape.max_positions);
  if (window < 2) {
    return absl::FailedPreconditionError(
        "texts: the model has a single position, and predicts no token from "
        "another");
  }
  ASSIGN_OR_RETURN(TextSamples samples,
                   TokenizeSamples(*task.tokenizer(), params.texts,
                                   /*several=*/true, "texts", shape.vocab_size,
                                   window, DefaultStride(window), proceed));
  if (params.limits.of_text() &&
      samples.counted_tokens() < kFewestCountedTokens) {
    return FieldError(
        "texts",
        absl::StrCat("must have at least ", kFewestCountedTokens,
                     " predicted tokens to hold a new version to limits, have ",
                     samples.counted_tokens()));
  }
  return samples;
}

// That there is something to find again.
absl::Status CheckFloatsFind(absl::Span<const Detections> found) {
  for (const Detections& in_picture : found) {
    if (!in_picture.empty()) return absl::OkStatus();
  }
  return FieldError(
      "pictures",
      absl::StrCat(
          "the checkpoint's floats find nothing in them with a score "
          "above ",
          kQualityThreshold,
          ", so there is nothing to hold a new version to; give others"));
}

class LoadedModels final : public ModelCatalog {
 public:
  LoadedModels(const CatalogOptions& options, ThreadPool& pool,
               const Clock& clock, CatalogObserver& observer)
      : options_(Normalized(options)),
        roots_(options_.model_roots),
        save_root_(options_.save_root),
        clock_(clock),
        observer_(observer),
        context_{options_,
                 pool,
                 turns_,
                 clock,
                 options_.memory == nullptr ? unlimited_ : *options_.memory,
                 observer_,
                 mu_} {}

  absl::StatusOr<std::shared_ptr<ServedModel>> Find(
      std::string_view name) override;
  std::vector<ModelInfo> List() const override;
  absl::Status Reserve(const std::string& name,
                       const std::string& path) override {
    RETURN_IF_ERROR(CheckName(name));
    MutexLock lock(&mu_);
    return Take(name, path);
  }
  absl::StatusOr<ModelInfo> Load(const LoadParams& params) override;
  absl::Status Unload(const std::string& name, bool force) override;
  absl::StatusOr<QuantizeReport> Quantize(
      const QuantizeParams& params,
      const std::function<absl::Status(const QuantizeUpdate&)>& progress)
      override;
  absl::StatusOr<SaveReport> Save(
      const SaveParams& params,
      const std::function<absl::Status(const SaveUpdate&)>& progress) override;
  absl::StatusOr<Inspection> Inspect(const InspectParams& params) override;
  MethodList Methods() const override { return ListMethods(); }
  void Drain(absl::Time deadline) override;

 private:
  using Progress = std::function<absl::Status(const QuantizeUpdate&)>;

  struct Entry {
    std::string path;
    std::shared_ptr<VersionedModel> served;  // null while it loads
  };
  // A quantization between the checks at its start and its end.
  struct Run {
    std::shared_ptr<VersionedModel> served;
    std::string path;
    std::string method;  // the plan's label
    ModelInfo before;
  };

  // Takes `name` for a model that is about to load.
  absl::Status Take(const std::string& name, const std::string& path)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Ends a reservation: with a model to serve, or with why there is none.
  absl::StatusOr<ModelInfo> Settle(
      const std::string& name,
      absl::StatusOr<std::shared_ptr<VersionedModel>> served)
      ABSL_LOCKS_EXCLUDED(mu_);

  // `made_beside` gets the model to serve under a name of its own. A report
  // with a refusal is of a version that is no more.
  absl::StatusOr<QuantizeReport> MakeVersion(
      const QuantizeParams& params, const Run& run, const Progress& progress,
      std::shared_ptr<VersionedModel>* made_beside);

  // Memory for another version of `served`. Where versions that no longer serve
  // are in the way, it waits for them, for some time; `wait` is told and asked.
  absl::StatusOr<MemoryBudget::Reservation> ReserveForVersion(
      const std::string& name, const VersionedModel& served,
      const MemoryNeed& need, const std::function<absl::Status()>& wait);

  absl::StatusOr<std::shared_ptr<VersionedModel>> FindServed(
      std::string_view name) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status CheckOpen() const ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Unknown(std::string_view name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  ModelInfo InfoOf(const std::string& name, const Entry& entry) const;

  const CatalogOptions options_;
  const ModelRoots roots_;
  const SaveRoot save_root_;
  const Clock& clock_;
  CatalogObserver& observer_;
  StepTurns turns_;
  MemoryBudget unlimited_;  // where there is no other
  mutable Mutex mu_;
  const EngineContext context_;

  CondVar unloaded_;  // a model is gone from models_
  std::map<std::string, Entry, std::less<>> models_ ABSL_GUARDED_BY(mu_);
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
};

absl::Status LoadedModels::Unknown(std::string_view name) const {
  std::vector<std::string> names;
  for (const auto& [known, entry] : models_) names.push_back(known);
  return AboutModel(
      Refusal(Reason::kModelNotFound,
              absl::StrCat("no model ", model::Quoted(name), "; ",
                           names.empty() ? "none is served" : "served: ",
                           absl::StrJoin(names, ", "))),
      {name.data(), name.size()});
}

absl::Status LoadedModels::CheckOpen() const {
  MutexLock lock(&mu_);
  if (!draining_) return absl::OkStatus();
  return ShuttingDown();
}

ModelInfo LoadedModels::InfoOf(const std::string& name,
                               const Entry& entry) const {
  if (entry.served != nullptr) return entry.served->info();
  ModelInfo info;
  info.name = name;
  info.path = entry.path;
  info.state = ModelState::kLoading;
  return info;
}

absl::StatusOr<std::shared_ptr<ServedModel>> LoadedModels::Find(
    std::string_view name) {
  return FindServed(name);
}

absl::StatusOr<std::shared_ptr<VersionedModel>> LoadedModels::FindServed(
    std::string_view name) {
  MutexLock lock(&mu_);
  const auto found = models_.find(name);
  if (found == models_.end() ||
      (found->second.served != nullptr &&
       found->second.served->state() == ModelState::kUnloading)) {
    return Unknown(name);
  }
  if (draining_) return ShuttingDown();
  if (found->second.served == nullptr) {
    return StillLoading(name);
  }
  return found->second.served;
}

std::vector<ModelInfo> LoadedModels::List() const {
  MutexLock lock(&mu_);
  std::vector<ModelInfo> result;
  result.reserve(models_.size());
  for (const auto& [name, entry] : models_) {
    result.push_back(InfoOf(name, entry));
  }
  return result;
}

absl::Status LoadedModels::Take(const std::string& name,
                                const std::string& path) {
  if (draining_) return ShuttingDown();
  const auto [it, is_new] = models_.try_emplace(name, Entry{path, nullptr});
  if (!is_new) {
    return AboutModel(
        Refusal(Reason::kModelExists,
                absl::StrCat("a model '", name, "' exists already and is ",
                             StateName(InfoOf(name, it->second).state))),
        name);
  }
  observer_.OnModelChanged(InfoOf(name, it->second));
  return absl::OkStatus();
}

absl::StatusOr<ModelInfo> LoadedModels::Settle(
    const std::string& name,
    absl::StatusOr<std::shared_ptr<VersionedModel>> served) {
  absl::StatusOr<ModelInfo> result;
  {
    MutexLock lock(&mu_);
    if (served.ok() && draining_) {
      served = ShuttingDown();
    }
    if (served.ok()) {
      (*served)->SetState(ModelState::kReady);
      result = (*served)->info();
      models_.find(name)->second.served = *std::move(served);
      observer_.OnModelChanged(*result);
    } else {
      result = served.status();
      models_.erase(name);
      observer_.OnModelRemoved(name);
    }
  }
  malloc_trim(0);  // what the readers used
  return result;
}

absl::StatusOr<ModelInfo> LoadedModels::Load(const LoadParams& params) {
  const std::string& name = params.name;
  const std::string& path = params.path;
  RETURN_IF_ERROR(CheckName(name));
  model::LoadOptions options;
  options.plan = params.plan;
  options.compute = options_.compute;
  options.threads = context_.pool.num_threads();
  if (!params.reserved) {
    MutexLock lock(&mu_);
    RETURN_IF_ERROR(Take(name, path));
  }
  const auto begin = [&](LoadStage stage) {
    if (params.on_stage) params.on_stage(stage);
  };
  begin(LoadStage::kReading);
  const absl::Time start = clock_.Now();
  struct Loaded {
    MemoryBudget::Reservation reservation;
    BuiltVersion built;
    std::shared_ptr<ServedTask> task;
  };
  const auto reserve = [&](const MemoryNeed& need, Loaded* loaded) {
    loaded->reservation = {};
    if (need.total() == 0) return absl::OkStatus();
    auto reserved =
        context_.memory.Reserve(need, absl::StrCat("loading '", name, "'"));
    if (!reserved.ok()) return reserved.status();
    loaded->reservation = *std::move(reserved);
    return absl::OkStatus();
  };
  const auto loaded = std::make_shared<Loaded>();
  const ModelRoots roots = params.reserved ? ModelRoots() : roots_;
  const bool pull = options_.pull && roots.Holds(hub::CacheFolder());
  const absl::Status status = RunInBackground(
      [loaded, path, options, &reserve, &name, roots, pull, &begin,
       this](Waiter& waiter) mutable -> absl::Status {
        const auto proceed = [&] { return waiter.CheckProceed(); };
        options.progress = [&](const model::LoadProgress&) {
          return proceed();
        };
        if (pull) RETURN_IF_ERROR(DownloadIfAbsent(path, proceed));
        ASSIGN_OR_RETURN(const std::string location, roots.Resolve(path));
        ASSIGN_OR_RETURN(const std::unique_ptr<model::Checkpoint> checkpoint,
                         model::Checkpoint::Open(location, proceed));
        ASSIGN_OR_RETURN(const model::ModelPlan plan,
                         model::PlanModel(*checkpoint, options));
        const std::string& folder = checkpoint->folder();
        const MemoryNeed to_read = NeedToReadTask(*plan.outline, folder);
        RETURN_IF_ERROR(
            waiter.Ask([&, loaded] { return reserve(to_read, loaded.get()); }));
        ASSIGN_OR_RETURN(loaded->task, ReadServedTask(*plan.outline, folder));
        malloc_trim(0);  // what reading used
        // In place of what reading could have taken.
        const MemoryNeed own = loaded->task->need();
        RETURN_IF_ERROR(waiter.Ask([&, loaded]() -> absl::Status {
          RETURN_IF_ERROR(reserve(own.Plus(loaded->task->NeedOfNewModel(
                                      context_, *plan.outline, plan.report)),
                                  loaded.get()));
          loaded->reservation.CountAsVersionOf(name);
          loaded->task->Hold(loaded->reservation.Split(own));
          begin(LoadStage::kPacking);
          return absl::OkStatus();
        }));
        ASSIGN_OR_RETURN(
            loaded->built,
            BuildVersion(*checkpoint, options, std::move(loaded->reservation)));
        return absl::OkStatus();
      },
      [&]() -> absl::Status {
        RETURN_IF_ERROR(CheckOpen());
        return params.proceed ? params.proceed() : absl::OkStatus();
      });
  const auto serve = [&]() -> absl::StatusOr<std::shared_ptr<VersionedModel>> {
    RETURN_IF_ERROR(status);
    begin(LoadStage::kPublishing);
    ASSIGN_OR_RETURN(
        std::shared_ptr<VersionedModel> served,
        loaded->task->Serve(context_, name, path, std::move(loaded->built)));
    const absl::Time now = clock_.Now();
    served->NoteServing(now, now - start);
    return served;
  };
  absl::StatusOr<std::shared_ptr<VersionedModel>> made = serve();
  if (!made.ok()) made = AboutCheckpoint(made.status());
  absl::StatusOr<ModelInfo> info = Settle(name, std::move(made));
  if (info.ok()) {
    spdlog::info("model {}: loaded as {} in {:.1f} s, {} bytes resident", name,
                 info->method, absl::ToDoubleSeconds(clock_.Now() - start),
                 info->resident_bytes);
  }
  return info;
}

absl::Status LoadedModels::Unload(const std::string& name, bool force) {
  std::shared_ptr<VersionedModel> served;
  std::shared_ptr<VersionedModel> other;  // that is being unloaded already
  {
    MutexLock lock(&mu_);
    const auto found = models_.find(name);
    if (found == models_.end()) return Unknown(name);
    const ModelInfo info = InfoOf(name, found->second);
    if (force && info.state == ModelState::kUnloading) {
      other = found->second.served;
    } else if (info.state != ModelState::kReady) {
      return Busy(name, info.state);
    } else {
      served = found->second.served;
      served->SetState(ModelState::kUnloading);
      observer_.OnModelChanged(served->info());
    }
  }
  if (other != nullptr) {
    // Another call waits for its requests, and goes on when they have ended.
    other->Drain(absl::InfinitePast());
    MutexLock lock(&mu_);
    while (true) {
      const auto found = models_.find(name);
      if (found == models_.end() || found->second.served != other) break;
      unloaded_.Wait(&mu_);
    }
    return absl::OkStatus();
  }
  served->Drain(force ? absl::InfinitePast() : absl::InfiniteFuture());
  served->Empty();
  served = nullptr;
  {
    MutexLock lock(&mu_);
    models_.erase(name);
    observer_.OnModelRemoved(name);
  }
  unloaded_.SignalAll();
  malloc_trim(0);
  spdlog::info("model {}: unloaded", name);
  return absl::OkStatus();
}

absl::StatusOr<QuantizeReport> LoadedModels::Quantize(
    const QuantizeParams& params, const Progress& progress) {
  Run run;
  run.method = params.plan.Label();
  if (!params.as.empty()) RETURN_IF_ERROR(CheckName(params.as));
  const bool beside = !params.as.empty() && !params.dry_run;
  {
    MutexLock lock(&mu_);
    if (draining_) return ShuttingDown();
    const auto found = models_.find(params.model);
    if (found == models_.end()) return Unknown(params.model);
    run.before = InfoOf(params.model, found->second);
    if (run.before.state != ModelState::kReady) {
      return Busy(params.model, run.before.state);
    }
    RETURN_IF_ERROR(CheckSamplesAreFor(run.before, params));
    run.served = found->second.served;
    run.path = found->second.path;
    if (beside) RETURN_IF_ERROR(Take(params.as, run.path));
    run.served->SetState(ModelState::kQuantizing);
    observer_.OnModelChanged(run.served->info());
    observer_.OnQuantizeStage(params.model, run.method,
                              QuantizeStage::kReading);
  }

  const absl::Time start = clock_.Now();
  std::shared_ptr<VersionedModel> made_beside;
  absl::StatusOr<QuantizeReport> report =
      MakeVersion(params, run, progress, &made_beside);
  if (!report.ok()) report = AboutCheckpoint(report.status());
  const absl::Status made = report.ok() ? report->refusal : report.status();
  const absl::Time end = clock_.Now();
  const absl::Duration duration = end - start;
  if (report.ok()) {
    report->seconds = absl::ToDoubleSeconds(duration);
    VersionedModel& of = made_beside != nullptr ? *made_beside : *run.served;
    if (made.ok() && !params.dry_run) of.NoteServing(end, duration);
    of.NoteReport(end, *report, params.dry_run);
  }
  if (beside) {
    // The name is free again, or serves.
    const absl::StatusOr<ModelInfo> info =
        made.ok() ? Settle(params.as, std::move(made_beside))
                  : Settle(params.as, made);
    if (made.ok() && !info.ok()) report = info.status();
  }
  {
    MutexLock lock(&mu_);
    run.served->SetState(ModelState::kReady);
    observer_.OnModelChanged(run.served->info());
    observer_.OnQuantizeDone(params.model, run.method,
                             report.ok() ? report->refusal : report.status(),
                             duration);
  }
  malloc_trim(0);
  if (report.ok() && !report->refusal.ok()) {
    spdlog::warn("model {}: not quantized with {}: {}", params.model,
                 report->method, std::string(report->refusal.message()));
  } else if (report.ok()) {
    spdlog::info(
        "model {}: quantized with {} in {:.1f} s, {} -> {} bytes resident{}",
        params.model, report->method, report->seconds,
        report->resident_bytes_before, report->resident_bytes_after,
        params.dry_run ? " (dry run)" : "");
  }
  return report;
}

absl::StatusOr<QuantizeReport> LoadedModels::MakeVersion(
    const QuantizeParams& params, const Run& run, const Progress& progress,
    std::shared_ptr<VersionedModel>* made_beside) {
  const bool beside = !params.as.empty() && !params.dry_run;
  QuantizeUpdate update;
  absl::Time told = clock_.Now();
  const auto tell = [&](QuantizeStage stage) {
    if (stage != update.stage) {
      update.stage = stage;
      MutexLock lock(&mu_);
      observer_.OnQuantizeStage(params.model, run.method, stage);
    }
    RETURN_IF_ERROR(CheckOpen());
    told = clock_.Now();
    return progress(update);
  };
  // While nothing happens.
  const auto proceed = [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckOpen());
    if (clock_.Now() - told < kProgressInterval) return absl::OkStatus();
    return tell(update.stage);
  };

  // The folder, and not the name it was found by: a hub cache may have another
  // snapshot under that name by now.
  const std::string& folder = run.served->folder();
  const CheckpointFingerprint& fingerprint = run.served->fingerprint();

  model::LoadOptions options;
  options.plan = params.plan;
  options.compute = options_.compute;
  options.threads = context_.pool.num_threads();
  options.measure_error = true;
  model::LoadOptions float_options;
  float_options.compute = options_.compute;
  float_options.threads = options.threads;
  const bool compares = !params.pictures.empty();
  std::shared_ptr<const model::Model> floats;
  if (compares) floats = run.served->own_floats();

  // Before anything is built: whether there is memory for it.
  struct Plan {
    int64_t num_tensors = 0;
    model::ModelPlan version;
    std::optional<model::ModelPlan> floats;
  };
  const auto plan = std::make_shared<Plan>();
  RETURN_IF_ERROR(RunInBackground(
      [plan, folder, fingerprint, options, float_options,
       wants_floats =
           compares && floats == nullptr](Waiter& waiter) -> absl::Status {
        ASSIGN_OR_RETURN(const auto checkpoint,
                         ReopenCheckpoint(folder, fingerprint, [&] {
                           return waiter.CheckProceed();
                         }));
        plan->num_tensors = static_cast<int64_t>(checkpoint->tensors().size());
        ASSIGN_OR_RETURN(plan->version, model::PlanModel(*checkpoint, options));
        if (!wants_floats) return absl::OkStatus();
        ASSIGN_OR_RETURN(plan->floats,
                         model::PlanModel(*checkpoint, float_options));
        return absl::OkStatus();
      },
      proceed));
  update.tensors_total = plan->num_tensors;
  RETURN_IF_ERROR(tell(QuantizeStage::kReading));
  const std::shared_ptr<const ServedTask>& task = run.served->served_task();
  const MemoryNeed need =
      beside ? task->NeedOfNewModel(context_, *plan->version.outline,
                                    plan->version.report)
             : task->NeedOfVersion(context_, *plan->version.outline,
                                   plan->version.report);
  // The floats are gone before the new version is built.
  const MemoryNeed most =
      plan->floats.has_value()
          ? need.Max(task->NeedOfVersion(context_, *plan->floats->outline,
                                         plan->floats->report))
          : need;
  std::optional<TextSamples> texts;
  std::unique_ptr<FloatPieces> float_pieces;
  MemoryNeed to_measure;
  if (compares || !params.texts.empty()) {
    to_measure[MemoryShare::kScratch] =
        InputSampler::MostBytes(plan->version.report);
  }
  if (!params.texts.empty()) {
    const model::CausalLm& outline = *plan->version.outline->causal_lm();
    ASSIGN_OR_RETURN(texts, ReadTexts(*task, outline.shape(), params, proceed));
    ASSIGN_OR_RETURN(float_pieces,
                     FloatPieces::Open(folder, fingerprint, proceed));
    to_measure = to_measure.Plus(
        NeedToEvaluate(context_, outline, texts->window, float_pieces.get()));
  }
  ASSIGN_OR_RETURN(
      MemoryBudget::Reservation reservation,
      ReserveForVersion(params.model, *run.served, most.Plus(to_measure),
                        [&] { return tell(QuantizeStage::kWaiting); }));
  MemoryBudget::Reservation measuring = reservation.Split(to_measure);
  InputSampler sampler;

  const auto build =
      [&](const model::LoadOptions& how, QuantizeStage stage,
          MemoryBudget::Reservation share) -> absl::StatusOr<BuiltVersion> {
    struct Made {
      MemoryBudget::Reservation reservation;
      BuiltVersion built;
    };
    const auto made = std::make_shared<Made>();
    made->reservation = std::move(share);
    const auto work = [made, folder, fingerprint, options = how, stage, &update,
                       &tell](Waiter& waiter) mutable -> absl::Status {
      options.progress = [&](const model::LoadProgress& loaded) {
        return waiter.Ask([&] {
          update.tensors_done = loaded.tensors_done;
          update.tensors_total = loaded.tensors_total;
          update.tensor = loaded.tensor;
          return tell(stage);
        });
      };
      ASSIGN_OR_RETURN(made->built,
                       RebuildVersion(folder, fingerprint, options,
                                      std::move(made->reservation),
                                      [&] { return waiter.CheckProceed(); }));
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(RunInBackground(work, proceed));
    return std::move(made->built);
  };
  const auto detect = [&](std::shared_ptr<const model::Model> model,
                          const std::string& method,
                          const std::function<absl::Status()>& next,
                          model::LinearObserver* observer)
      -> absl::StatusOr<std::vector<Detections>> {
    std::vector<Detections> found;
    RETURN_IF_ERROR(RunInBackground(
        [&](Waiter& waiter) -> absl::Status {
          ASSIGN_OR_RETURN(
              found, task->Detect(
                         context_, std::move(model), method, params.pictures,
                         [&] { return waiter.Ask(next); }, observer));
          return absl::OkStatus();
        },
        proceed, {.patience = absl::InfiniteDuration()}));
    return found;
  };

  std::vector<Detections> float_detections;
  if (compares) {
    if (floats == nullptr) {
      ASSIGN_OR_RETURN(BuiltVersion built,
                       build(float_options, QuantizeStage::kReading, {}));
      floats = std::move(built.model);
    }
    ASSIGN_OR_RETURN(float_detections, detect(std::move(floats), /*method=*/"",
                                              proceed, &sampler));
    if (params.limits.of_pictures()) {
      RETURN_IF_ERROR(CheckFloatsFind(float_detections));
    }
  }
  if (texts.has_value()) {
    RETURN_IF_ERROR(ObserveFloats(context_, texts->tokens, texts->window,
                                  InputSampler::kRows, *float_pieces, sampler,
                                  proceed));
  }
  options.inputs = sampler.Take();
  reservation.ShrinkTo(need);
  ASSIGN_OR_RETURN(
      BuiltVersion version,
      build(options, QuantizeStage::kQuantizing, std::move(reservation)));
  options.inputs = nullptr;
  update.tensor.clear();

  QuantizeReport report = CompareWeights(run.before, version.report);
  report.model = beside ? params.as : params.model;
  if (texts.has_value()) {
    ASSIGN_OR_RETURN(
        report.quality,
        MeasureSamples(context_, *version.model->causal_lm(), report.method,
                       *task->tokenizer(), *texts, float_pieces.get(),
                       [&](const EvaluateUpdate& done) {
                         update.samples_done = done.tokens_done;
                         update.samples_total = done.tokens_total;
                         return tell(QuantizeStage::kEvaluating);
                       }));
    float_pieces = nullptr;
    measuring = {};
  }
  if (compares) {
    update.samples_total = static_cast<int64_t>(params.pictures.size());
    update.samples_done = -1;  // asked before each
    ASSIGN_OR_RETURN(const std::vector<Detections> detections,
                     detect(
                         version.model, report.method,
                         [&] {
                           ++update.samples_done;
                           return tell(QuantizeStage::kEvaluating);
                         },
                         nullptr));
    report.detection = CompareDetections(float_detections, detections);
    report.detection->method = report.method;
  }
  report.refusal =
      CheckQuality(params.limits, report.quality, report.detection);
  if (!report.refusal.ok()) return report;
  update.samples_done = update.samples_total;
  RETURN_IF_ERROR(tell(QuantizeStage::kSwapping));
  if (params.dry_run) return report;

  std::shared_ptr<VersionedModel> serving = run.served;
  if (beside) {
    ASSIGN_OR_RETURN(*made_beside, task->Serve(context_, params.as, run.path,
                                               std::move(version)));
    serving = *made_beside;
    report.version = serving->info().version;
  } else {
    report.version = run.before.version + 1;
    RETURN_IF_ERROR(run.served->Swap(report.version, std::move(version)));
  }
  MutexLock lock(&mu_);
  if (report.quality.has_value()) {
    report.quality->version = report.version;
    serving->NoteQuality(*report.quality);
    observer_.OnEvaluated(report.model, *report.quality);
  }
  if (report.detection.has_value()) {
    report.detection->version = report.version;
    serving->NoteQuality(*report.detection);
    observer_.OnDetectionEvaluated(report.model, *report.detection);
  }
  return report;
}

absl::StatusOr<MemoryBudget::Reservation> LoadedModels::ReserveForVersion(
    const std::string& name, const VersionedModel& served,
    const MemoryNeed& need, const std::function<absl::Status()>& wait) {
  const absl::Time deadline = clock_.Now() + options_.max_version_wait;
  while (true) {
    const std::vector<VersionedModel::OldVersion> old = served.OldVersions();
    absl::Status refusal;
    // The one that serves, and the one that is to be built.
    if (static_cast<int64_t>(old.size()) + 2 <= options_.max_versions) {
      auto reserved = context_.memory.Reserve(
          need, absl::StrCat("quantizing '", name, "'"));
      if (reserved.ok()) {
        reserved->CountAsVersionOf(name);
        return reserved;
      }
      refusal = reserved.status();
      if (old.empty()) return refusal;
    } else {
      refusal = Refusal(
          Reason::kVersionsFull,
          absl::StrCat("at most ", options_.max_versions, " versions of '",
                       name, "' may be in memory at a time"));
    }
    if (clock_.Now() >= deadline) {
      int64_t bytes = 0, requests = 0;
      for (const VersionedModel::OldVersion& version : old) {
        bytes += version.bytes;
        requests += version.requests;
      }
      return Refusal(
          Reason::kVersionsFull,
          absl::StrCat(std::string(refusal.message()), "; old versions of '",
                       name, "' still hold ", FormatByteSize(bytes), " for ",
                       requests, requests == 1 ? " request" : " requests"));
    }
    RETURN_IF_ERROR(wait());
    context_.memory.AwaitRelease(kVersionPoll);
  }
}

absl::StatusOr<SaveReport> LoadedModels::Save(
    const SaveParams& params,
    const std::function<absl::Status(const SaveUpdate&)>& progress) {
  // All of the version that is needed: it may be swapped out or unloaded.
  ASSIGN_OR_RETURN(const std::shared_ptr<VersionedModel> served,
                   FindServed(params.model));
  const VersionToSave version = {.folder = served->folder(),
                                 .fingerprint = served->fingerprint(),
                                 .info = served->info()};
  const absl::Time start = clock_.Now();
  SaveUpdate update;
  absl::Time told = start;
  const auto tell = [&](const SaveUpdate& news) -> absl::Status {
    RETURN_IF_ERROR(CheckOpen());
    update = news;
    told = clock_.Now();
    return progress(update);
  };
  const auto proceed = [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckOpen());
    if (clock_.Now() - told < kProgressInterval) return absl::OkStatus();
    return tell(update);
  };
  absl::StatusOr<SaveReport> report =
      SaveVersion(version, save_root_, params, tell, proceed);
  malloc_trim(0);
  const absl::Duration duration = clock_.Now() - start;
  {
    MutexLock lock(&mu_);
    const auto found = models_.find(params.model);
    if (found != models_.end() && found->second.served == served) {
      observer_.OnSaveDone(params.model, report.status(),
                           report.ok() ? report->weight_bytes : 0, duration);
    }
  }
  RETURN_IF_ERROR(report.status());
  report->seconds = absl::ToDoubleSeconds(duration);
  spdlog::info("model {}: version {}, {}, saved as {} in {:.1f} s, {} bytes",
               params.model, report->version, version.info.method,
               report->format, report->seconds, report->weight_bytes);
  return report;
}

absl::StatusOr<Inspection> LoadedModels::Inspect(const InspectParams& params) {
  model::LoadOptions options;
  options.compute = options_.compute;
  std::string location = params.path;
  std::optional<CheckpointFingerprint> loaded;
  if (!params.model.empty()) {
    MutexLock lock(&mu_);
    const auto found = models_.find(params.model);
    if (found == models_.end()) return Unknown(params.model);
    if (found->second.served == nullptr) {
      return StillLoading(params.model);
    }
    location = found->second.served->folder();
    loaded = found->second.served->fingerprint();
    ASSIGN_OR_RETURN(options.plan,
                     model::ParseMethodPlan(found->second.served->info().plan));
  }
  if (params.plan.has_value()) options.plan = *params.plan;
  const auto inspection = std::make_shared<Inspection>();
  RETURN_IF_ERROR(AboutCheckpoint(RunInBackground(
      [inspection, options, location, loaded, roots = roots_,
       tensor = params.tensor,
       method = params.method](Waiter& waiter) -> absl::Status {
        const auto proceed = [&] { return waiter.CheckProceed(); };
        std::unique_ptr<model::Checkpoint> checkpoint;
        if (loaded.has_value()) {
          ASSIGN_OR_RETURN(checkpoint,
                           ReopenCheckpoint(location, *loaded, proceed));
        } else {
          ASSIGN_OR_RETURN(const std::string resolved, roots.Resolve(location));
          ASSIGN_OR_RETURN(checkpoint,
                           model::Checkpoint::Open(resolved, proceed));
        }
        ASSIGN_OR_RETURN(
            *inspection,
            InspectCheckpoint(*checkpoint, options, tensor, method, proceed));
        return absl::OkStatus();
      },
      [&]() -> absl::Status {
        RETURN_IF_ERROR(CheckOpen());
        return params.proceed ? params.proceed() : absl::OkStatus();
      })));
  malloc_trim(0);
  return std::move(*inspection);
}

void LoadedModels::Drain(absl::Time deadline) {
  std::vector<std::shared_ptr<VersionedModel>> served;
  {
    MutexLock lock(&mu_);
    draining_ = true;
    for (const auto& [name, entry] : models_) {
      if (entry.served != nullptr) served.push_back(entry.served);
    }
  }
  for (const auto& model : served) model->Drain(deadline);
}

}  // namespace

std::unique_ptr<ModelCatalog> CreateModelCatalog(const CatalogOptions& options,
                                                 ThreadPool& pool,
                                                 const Clock& clock,
                                                 CatalogObserver& observer) {
  return std::make_unique<LoadedModels>(options, pool, clock, observer);
}

}  // namespace ounce::server
