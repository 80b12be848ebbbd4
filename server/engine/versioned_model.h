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
#include "base/mutex.h"
#include "model/model.h"
#include "server/engine/built_version.h"
#include "server/engine/checkpoint_fingerprint.h"
#include "server/engine/served_task.h"
#include "server/scheduler/model_catalog.h"
#include "server/scheduler/model_history.h"

namespace ounce::server {

// Threads: any; state, version and bytes change under a lock of its own, the
//   catalog sees to it that one thing happens to a model at a time.
class VersionedModel : public ServedModel {
 public:
  ModelInfo info() const final;

  // The folder and the files that were loaded.
  const std::string& folder() const { return folder_; }
  const CheckpointFingerprint& fingerprint() const { return fingerprint_; }

  // What all its versions share, and another model of the same checkpoint too.
  const std::shared_ptr<const ServedTask>& served_task() const {
    return served_task_;
  }

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

  // The version that serves, alive as long as someone holds this; counts as a
  // request on it.
  struct Pinned {
    int64_t version = 0;
    std::string method;
    std::shared_ptr<const model::Model> model;
    std::shared_ptr<const void> engine;
  };
  // Errors: kUnavailable after Drain.
  absl::StatusOr<Pinned> Pin() const;

  // For info(), as long as the version serves that it is of.
  void NoteQuality(const TextQuality& quality);
  void NoteQuality(const DetectionQuality& quality);

  // For info().history: when the version that serves began to, and how long it
  // took to make; and how a quantization ended.
  void NoteServing(absl::Time since, absl::Duration took);
  void NoteReport(absl::Time now, const QuantizeReport& report, bool dry_run);

  // The serving version's weights, if they are the checkpoint's floats as they
  // are; else null.
  std::shared_ptr<const model::Model> own_floats() const;

  // As the schedulers' Drain.
  virtual void Drain(absl::Time deadline) = 0;

  // After Drain: nothing large is left, whoever still holds the model.
  virtual void Empty() = 0;

 protected:
  // `info` is that of `built`, version 1, loading.
  VersionedModel(ModelInfo info, const BuiltVersion& built,
                 std::shared_ptr<const ServedTask> served_task);

  virtual absl::Status SetEngine(int64_t version, BuiltVersion built) = 0;

  // To be called with each version's engine, whose method is `method`.
  void NoteVersion(int64_t version, std::string method,
                   std::weak_ptr<VersionMemory> memory,
                   std::weak_ptr<const void> engine);
  virtual SchedulerStats stats() const = 0;

 private:
  const std::string folder_;
  const CheckpointFingerprint fingerprint_;
  const std::shared_ptr<const ServedTask> served_task_;

  struct Version {
    int64_t number;
    std::string method;
    std::weak_ptr<VersionMemory> memory;
    std::weak_ptr<const void> engine;  // each request on it has a share
  };

  // Changes a copy: others may hold the history that there is.
  void ChangeHistory(const std::function<void(ModelHistory&)>& change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;
  ModelInfo info_ ABSL_GUARDED_BY(mu_);
  std::vector<Version> versions_ ABSL_GUARDED_BY(mu_);  // the last one serves
  // Not held: the scheduler's engine does that while it serves.
  std::weak_ptr<const model::Model> own_floats_ ABSL_GUARDED_BY(mu_);
};

// What ModelInfo says of version 1 of any model, while it loads.
ModelInfo NewModelInfo(const std::string& name, const std::string& path,
                       const BuiltVersion& built);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_VERSIONED_MODEL_H_
