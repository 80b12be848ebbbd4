// A checkpoint turned into a model, and what is to be told of it.
#ifndef OUNCE_SERVER_ENGINE_BUILT_VERSION_H_
#define OUNCE_SERVER_ENGINE_BUILT_VERSION_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "model/model.h"
#include "server/engine/checkpoint_fingerprint.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

// A version's weights and its share of the server's memory: both live until the
// last one who holds `model` of a BuiltVersion lets go of it, and end in this
// order.
struct VersionMemory {
  MemoryBudget::Reservation reservation;
  std::unique_ptr<const model::Model> model;
};

struct BuiltVersion {
  std::shared_ptr<const model::Model> model;  // shares `memory`
  std::weak_ptr<VersionMemory> memory;
  model::LoadReport report;
  // Its weights are known to be those of the checkpoint, unchanged.
  bool has_own_floats = false;
  std::string folder;  // where it was found, whatever it was found by
  CheckpointFingerprint fingerprint;
};

// `reservation` is what its weights and its engine take.
// Errors: those of model::LoadModel and FingerprintOf.
absl::StatusOr<BuiltVersion> BuildVersion(
    const model::Checkpoint& checkpoint, const model::LoadOptions& options,
    MemoryBudget::Reservation reservation);

// Opens a checkpoint that was loaded from `folder` when `loaded` was its
// fingerprint. `proceed` is asked while it is opened and read.
// Errors: kFailedPrecondition when it is no longer that one, or can't be read
//   any more; kResourceExhausted; those of `proceed`.
absl::StatusOr<std::unique_ptr<model::Checkpoint>> ReopenCheckpoint(
    const std::string& folder, const CheckpointFingerprint& loaded,
    const std::function<absl::Status()>& proceed);

// Another version of that checkpoint.
// Errors: those of ReopenCheckpoint and BuildVersion.
absl::StatusOr<BuiltVersion> RebuildVersion(
    const std::string& folder, const CheckpointFingerprint& loaded,
    const model::LoadOptions& options, MemoryBudget::Reservation reservation,
    const std::function<absl::Status()>& proceed);

// Fills in the weights' part: plan, method, parameters, bytes.
void DescribeWeights(const model::LoadReport& report, ModelInfo* info);

TensorOutcome OutcomeOf(const model::TensorReport& tensor);

// What became of each tensor, and bytes before and after; model, version and
// seconds are left to whoever serves it.
QuantizeReport CompareWeights(const ModelInfo& before,
                              const model::LoadReport& after);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_BUILT_VERSION_H_
