// Reads files again when they change: certificates and tokens are replaced
// while the server runs.
//
// A file has changed when another one has its name, or its size or times
// differ; what a link leads to counts. Once files that belong together have
// been the same for two looks, they are read: who replaces them one by one is
// given the time.
//
// Threads: one of its own calls `reload` and `on_reload`.
// Ownership: what these need must outlive it; the destructor waits for a call.
#ifndef OUNCE_SERVER_FILE_RELOADS_H_
#define OUNCE_SERVER_FILE_RELOADS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace ounce::server {

struct ReloadedFiles {
  std::vector<std::string> paths;  // empty ones count for nothing
  // On error what there was stays.
  std::function<absl::Status()> reload;
  // How it went; to be logged and counted.
  std::function<void(const absl::Status&)> on_reload;
};

class FileReloads {
 public:
  // Looks every `interval`.
  // Errors: kResourceExhausted without a thread.
  static absl::StatusOr<std::unique_ptr<FileReloads>> Start(
      std::vector<ReloadedFiles> files,
      absl::Duration interval = absl::Seconds(1));
  virtual ~FileReloads() = default;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_FILE_RELOADS_H_
