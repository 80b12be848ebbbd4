// A version that serves, written as a folder of files.
#ifndef OUNCE_SERVER_ENGINE_SAVING_H_
#define OUNCE_SERVER_ENGINE_SAVING_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/engine/checkpoint_fingerprint.h"
#include "server/engine/save_root.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

struct VersionToSave {
  std::string folder;  // of its checkpoint
  CheckpointFingerprint fingerprint;
  ModelInfo info;
};

// Reads the checkpoint again and writes what the version's plan makes of it,
// behind all requests; takes its time on the caller's thread. Nothing of the
// version's weights is touched. `tell` is told of each tensor and, while there
// is none, about once a second of the last one again; `proceed` is asked in
// between. The first error of either ends the work with that error. Of the
// report `seconds` is left to the caller. Errors: as SaveModel of
// model_admin.proto; then nothing is left.
absl::StatusOr<SaveReport> SaveVersion(
    const VersionToSave& version, const SaveRoot& root,
    const SaveParams& params,
    const std::function<absl::Status(const SaveUpdate&)>& tell,
    const std::function<absl::Status()>& proceed);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_SAVING_H_
