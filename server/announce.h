// What the server says once it listens and once it is ready: on stdout, and to
// programs in a file.
#ifndef OUNCE_SERVER_ANNOUNCE_H_
#define OUNCE_SERVER_ANNOUNCE_H_

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "server/config.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

struct Addresses {  // HOST:PORT, as bound
  std::string inference;
  std::string admin;
  std::string metrics;
};

// Lines of stdout (log.h). Among them one `listening NAME HOST:PORT` per
// listener, NAME one of inference, admin, metrics: programs may look for them.
void AnnounceStart(const std::string& version, const std::string& isa,
                   const Config& config, const Addresses& addresses);

// A line for each model that serves, then `ready`, with a warning where none
// does. A call may have begun a load that is still under way.
void AnnounceModels(const std::vector<ModelInfo>& models);

// The file of --ports_file, {"inference": "HOST:PORT", "admin": ...,
// "metrics": ...}: it is there while the server is ready, and whoever sees it
// sees all of it.
//
// Errors: kFailedPrecondition, with the file and the system's words. What is no
//   regular file (a device, a folder, a link to one) is never replaced.
class PortsFile {
 public:
  // Empty: no file, and nothing else does anything.
  explicit PortsFile(std::string path) : path_(std::move(path)) {}
  // Removes it.
  ~PortsFile() { Remove(); }
  PortsFile(const PortsFile&) = delete;
  PortsFile& operator=(const PortsFile&) = delete;

  // Removes what a server before left there, and writes a draft beside it, so
  // that what can't be written is known before models are loaded.
  absl::Status Prepare(const Addresses& addresses);
  // Puts the draft in its place.
  absl::Status Publish();
  // Both. Any thread.
  void Remove();

 private:
  std::string Draft() const { return path_ + ".part"; }

  const std::string path_;
  std::atomic<bool> prepared_ = false;  // read by who ends the process
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ANNOUNCE_H_
