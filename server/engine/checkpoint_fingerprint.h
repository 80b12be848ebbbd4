// Whether a checkpoint on disk is still the one that was loaded.
#ifndef OUNCE_SERVER_ENGINE_CHECKPOINT_FINGERPRINT_H_
#define OUNCE_SERVER_ENGINE_CHECKPOINT_FINGERPRINT_H_

#include <string>

#include "absl/status/status.h"
#include "model/checkpoint/checkpoint.h"

namespace ounce::server {

// What tells checkpoints apart without reading their weights: the config files,
// names, dtypes and shapes of the tensors, names, sizes and times of the weight
// files.
struct CheckpointFingerprint {
  std::string config;
  std::string tensors;
  std::string files;
};

CheckpointFingerprint FingerprintOf(const model::Checkpoint& checkpoint);

// kFailedPrecondition, saying what has changed, if `now` is not `loaded`.
absl::Status CheckUnchanged(const CheckpointFingerprint& loaded,
                            const CheckpointFingerprint& now,
                            const std::string& folder);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_CHECKPOINT_FINGERPRINT_H_
