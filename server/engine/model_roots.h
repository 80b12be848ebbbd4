// Where calls may load models from (--model_roots).
//
// Threads: const, so any thread may ask.
#ifndef OUNCE_SERVER_ENGINE_MODEL_ROOTS_H_
#define OUNCE_SERVER_ENGINE_MODEL_ROOTS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace ounce::server {

class ModelRoots {
 public:
  // Without folders: from anywhere.
  explicit ModelRoots(std::vector<std::string> folders = {})
      : folders_(std::move(folders)) {}

  // What to open for `location`, a folder or org/name[@revision]: without
  // roots itself, else the folder that it means, by a path without symbolic
  // links and "..". That folder and all files in it, links followed, lie under
  // a root. Reads from the file system.
  // Errors: kPermissionDenied, whether there is something at a path outside of
  // the roots or not; others as model::FindModelFolder's.
  absl::StatusOr<std::string> Resolve(const std::string& location) const;

  // Whether models may be loaded from `folder`, which may not be there yet.
  bool Holds(const std::string& folder) const;

 private:
  absl::Status Denied(const std::string& location) const;

  const std::vector<std::string> folders_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_MODEL_ROOTS_H_
