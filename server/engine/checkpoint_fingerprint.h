// Whether a checkpoint on disk is still the one that was loaded.
#ifndef OUNCE_SERVER_ENGINE_CHECKPOINT_FINGERPRINT_H_
#define OUNCE_SERVER_ENGINE_CHECKPOINT_FINGERPRINT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"

namespace ounce::server {

// What tells checkpoints apart without reading their weights: the config files;
// names, dtypes and shapes of the tensors; of each weight file its name, size,
// inode, and the times of its last writing and of its last change of any kind,
// which nobody can set back.
struct CheckpointFingerprint {
  std::string config;
  std::string tensors;
  std::string files;
};

// Errors: kResourceExhausted when no file descriptor is left to look with;
//   kDataLoss when a weight file can't be looked at for another reason.
absl::StatusOr<CheckpointFingerprint> FingerprintOf(
    const model::Checkpoint& checkpoint);

// kFailedPrecondition, saying what has changed, if `now` is not `loaded`.
absl::Status CheckUnchanged(const CheckpointFingerprint& loaded,
                            const CheckpointFingerprint& now,
                            const std::string& folder);

// What CheckUnchanged returns; `changed` completes "changed: ".
absl::Status ChangedError(const std::string& folder, absl::string_view changed);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_CHECKPOINT_FINGERPRINT_H_
