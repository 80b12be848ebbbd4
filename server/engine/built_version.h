// A checkpoint turned into a model, and what is to be told of it.
#ifndef OUNCE_SERVER_ENGINE_BUILT_VERSION_H_
#define OUNCE_SERVER_ENGINE_BUILT_VERSION_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/loader.h"
#include "model/model.h"
#include "server/engine/checkpoint_fingerprint.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

struct BuiltVersion {
  std::shared_ptr<const model::Model> model;
  model::LoadReport report;
  // Its weights are known to be those of the checkpoint, unchanged.
  bool has_own_floats = false;
  std::string folder;  // where it was found, whatever it was found by
  CheckpointFingerprint fingerprint;
};

// Errors: those of model::LoadModel and FingerprintOf.
absl::StatusOr<BuiltVersion> BuildVersion(const model::Checkpoint& checkpoint,
                                          const model::LoadOptions& options);

// Another version of a model that was loaded from `folder` when `loaded` was
// its fingerprint; `opened` sees the checkpoint before the long work begins,
// and `proceed` is asked while it is read.
// Errors: kFailedPrecondition when the checkpoint is no longer that one, or
//   can't be read any more; those of BuildVersion, `opened` and `proceed`.
absl::StatusOr<BuiltVersion> RebuildVersion(
    const std::string& folder, const CheckpointFingerprint& loaded,
    const model::LoadOptions& options,
    const std::function<absl::Status(const model::Checkpoint&)>& opened,
    const std::function<absl::Status()>& proceed);

// Fills in the weights' part: method, parameters, bytes.
void DescribeWeights(const model::LoadReport& report, ModelInfo* info);

// What became of each tensor, and bytes before and after; model, version and
// seconds are left to whoever serves it.
QuantizeReport CompareWeights(const ModelInfo& before,
                              const model::LoadReport& after);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_BUILT_VERSION_H_
