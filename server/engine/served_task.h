// How models of one task are served. What all models have in common is in
// versioned_model.h; what differs by task is here, behind one table
// (served_task.cc).
#ifndef OUNCE_SERVER_ENGINE_SERVED_TASK_H_
#define OUNCE_SERVER_ENGINE_SERVED_TASK_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/thread_pool.h"
#include "model/causal_lm.h"
#include "model/layers/kv_cache.h"
#include "model/loader/loader.h"
#include "model/model.h"
#include "model/tokenizer/tokenizer.h"
#include "server/engine/built_version.h"
#include "server/engine/detection_quality.h"
#include "server/engine/loaded_models.h"
#include "server/engine/step_turns.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

class VersionedModel;

// What models need to run; the catalog's.
struct EngineContext {
  const CatalogOptions& options;
  ThreadPool& pool;
  StepTurns& turns;
  const Clock& clock;
  MemoryBudget& memory;
  CatalogObserver& observer;  // to be called with observer_mutex held
  Mutex& observer_mutex;
};

// Of the caches that a model gets here.
model::KvShape KvShapeOf(const EngineContext& context,
                         const model::CausalLm& model);

// What one model needs besides its weights (a tokenizer, an image processor),
// all its versions the same, and what follows from it. `model` and `report` may
// be outlines, and are of this task.
//
// Ownership: whoever has one, and each model that it serves, shares it.
// Threads: const once it holds its memory, so any thread may call anything.
class ServedTask : public std::enable_shared_from_this<ServedTask> {
 public:
  virtual ~ServedTask() = default;

  // What it takes itself, and its share of the server's memory, which it holds
  // until it ends.
  virtual MemoryNeed need() const { return {}; }
  void Hold(MemoryBudget::Reservation memory) { memory_ = std::move(memory); }

  // What a version takes, with working memory for it.
  virtual MemoryNeed NeedOfVersion(const EngineContext& context,
                                   const model::Model& model,
                                   const model::LoadReport& report) const = 0;

  // What serving a model under a new name takes: a version, and what one
  // request needs besides.
  virtual MemoryNeed NeedOfNewModel(const EngineContext& context,
                                    const model::Model& model,
                                    const model::LoadReport& report) const = 0;

  // Serves `built` as version 1; its reservation is NeedOfNewModel.
  // Ownership: `context` must outlive the result, which holds a share of this
  //   and is the catalog's to change.
  // Errors: those of the task's scheduler and engine.
  virtual absl::StatusOr<std::shared_ptr<VersionedModel>> Serve(
      const EngineContext& context, const std::string& name,
      const std::string& path, BuiltVersion built) const = 0;

  // What texts become tokens with, alive as long as this; null if the model
  // generates none.
  virtual const model::Tokenizer* tokenizer() const { return nullptr; }

  // What `model` by `method` (as CreateEvaluationEngine has it) finds in
  // pictures, with scores above kQualityThreshold. Takes a turn for each behind
  // those who serve; stops with the error of `proceed`, which is asked before
  // each picture. `observer`, which may be null, sees what layers read.
  // Errors: kFailedPrecondition if it detects no objects; of its engine's Run.
  virtual absl::StatusOr<std::vector<Detections>> Detect(
      const EngineContext& context, std::shared_ptr<const model::Model> model,
      std::string method,
      absl::Span<const std::shared_ptr<const Picture>> pictures,
      const std::function<absl::Status()>& proceed,
      model::LinearObserver* observer) const;

 private:
  MemoryBudget::Reservation memory_;
};

// What ReadServedTask takes while it runs, at most, as far as that is worth
// counting.
MemoryNeed NeedToReadTask(const model::Model& model, const std::string& folder);

// Of what `model` can do, what it needs from the checkpoint's folder.
//
// Errors: kUnimplemented if the model can do nothing that is served; those of
//   Tokenizer::Load and LoadImageProcessor.
absl::StatusOr<std::shared_ptr<ServedTask>> ReadServedTask(
    const model::Model& model, const std::string& folder);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_SERVED_TASK_H_
