// A model under its name, whichever version it is at: what the catalog does
// with it, whatever it can do.
#ifndef OUNCE_SERVER_ENGINE_VERSIONED_MODEL_H_
#define OUNCE_SERVER_ENGINE_VERSIONED_MODEL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/thread_pool.h"
#include "model/model.h"
#include "model/processors/detr_image_processor.h"
#include "model/tokenizer/tokenizer.h"
#include "server/engine/built_version.h"
#include "server/engine/checkpoint_fingerprint.h"
#include "server/engine/detection_quality.h"
#include "server/engine/loaded_models.h"
#include "server/engine/step_turns.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

// What models need to run; the catalog's.
struct EngineContext {
  const CatalogOptions& options;
  ThreadPool& pool;
  StepTurns& turns;
  const Clock& clock;
  MemoryBudget& memory;
  // CatalogObserver's, under the catalog's lock.
  std::function<std::unique_ptr<SchedulerObserver>(const std::string& model)>
      observe_scheduler;
  std::function<std::unique_ptr<DetectObserver>(const std::string& model)>
      observe_detection;
};

// What a model needs besides its weights, all versions the same.
struct Companions {
  std::shared_ptr<const model::Tokenizer> tokenizer = nullptr;  // of text
  std::shared_ptr<const model::DetrImageProcessor> image_processor =
      nullptr;  // of pictures
};

// Threads: any; state, version and bytes change under a lock of its own, the
//   catalog sees to it that one thing happens to a model at a time.
class VersionedModel : public ServedModel {
 public:
  ModelInfo info() const final;

  // The folder and the files that were loaded.
  const std::string& folder() const { return folder_; }
  const CheckpointFingerprint& fingerprint() const { return fingerprint_; }

  ModelState state() const;
  void SetState(ModelState state);

  // New requests begin on `built`, as this version, from the next step on.
  // Errors: kResourceExhausted; the old version serves on then.
  absl::Status Swap(int64_t version, BuiltVersion built);

  // A version that no longer serves, and that requests hold.
  struct OldVersion {
    int64_t version = 0;
    int64_t bytes = 0;     // of the server's memory
    int64_t requests = 0;  // about, for they come and go
  };
  std::vector<OldVersion> OldVersions() const;

  // What another version of it takes, `model` and `report` outlines of it.
  virtual MemoryNeed NeedOf(const model::Model& model,
                            const model::LoadReport& report) const = 0;

  // Serves `built`, of the same checkpoint, as version 1 of another name.
  // Errors: as Serve.
  virtual absl::StatusOr<std::shared_ptr<VersionedModel>> ServeBeside(
      const std::string& name, const std::string& path,
      BuiltVersion built) const = 0;

  // What all its versions share.
  virtual Companions companions() const = 0;

  // As the schedulers' Drain.
  virtual void Drain(absl::Time deadline) = 0;

  // After Drain: nothing large is left, whoever still holds the model.
  virtual void Empty() = 0;

  // The serving version's weights, if they are the checkpoint's floats as they
  // are and the model detects objects; else null.
  virtual std::shared_ptr<const model::Model> own_floats() const {
    return nullptr;
  }

  // What `model`, another version of this one, finds in pictures, with scores
  // above kQualityThreshold. Takes its turns among those who serve; stops with
  // the error of `proceed`, which is asked before each picture.
  // Errors: kFailedPrecondition if the model detects no objects.
  virtual absl::StatusOr<std::vector<Detections>> Detect(
      std::shared_ptr<const model::Model> model,
      absl::Span<const std::shared_ptr<const Picture>> pictures,
      const std::function<absl::Status()>& proceed) const;

 protected:
  // `info` is that of version 1, loading.
  VersionedModel(ModelInfo info, std::string folder,
                 CheckpointFingerprint fingerprint);

  virtual absl::Status SetEngine(int64_t version, BuiltVersion built) = 0;

  // To be called with each version's engine.
  void NoteVersion(int64_t version, std::weak_ptr<VersionMemory> memory,
                   std::weak_ptr<const void> engine);
  virtual SchedulerStats stats() const = 0;

 private:
  const std::string folder_;
  const CheckpointFingerprint fingerprint_;

  struct Version {
    int64_t number;
    std::weak_ptr<VersionMemory> memory;
    std::weak_ptr<const void> engine;  // each request on it has a share
  };

  mutable Mutex mu_;
  ModelInfo info_ ABSL_GUARDED_BY(mu_);
  std::vector<Version> versions_ ABSL_GUARDED_BY(mu_);  // the last one serves
};

// What ModelInfo says of version 1 of any model, while it loads.
ModelInfo NewModelInfo(const std::string& name, const std::string& path,
                       const BuiltVersion& built);

// Reads what a model needs besides its weights from the checkpoint's folder.
// Errors: kUnimplemented if the model can do nothing that is served; those of
//   Tokenizer::Load and DetrImageProcessor::Load.
absl::StatusOr<Companions> ReadCompanions(const model::Model& model,
                                          const std::string& folder);

// What serving a model under a new name takes: a version, working memory for
// it, and what one request needs of a KV cache. `model` and `report` may be
// outlines.
MemoryNeed NeedOfNewModel(const EngineContext& context,
                          const model::Model& model,
                          const model::LoadReport& report,
                          const Companions& companions);

// Serves `built`, whatever it can do, with its companions; its reservation is
// NeedOfNewModel.
//
// Ownership: `context` must outlive the result, which is the catalog's to
//   change.
// Errors: those of ServeCausalLm and ServeDetector.
absl::StatusOr<std::shared_ptr<VersionedModel>> Serve(
    const EngineContext& context, const std::string& name,
    const std::string& path, BuiltVersion built, const Companions& companions);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_VERSIONED_MODEL_H_
