// What the server says at its start, to people on stdout and to programs in a
// file.
#ifndef OUNCE_SERVER_ANNOUNCE_H_
#define OUNCE_SERVER_ANNOUNCE_H_

#include <string>
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

// Among others one line `listening NAME HOST:PORT` per listener, NAME one of
// inference, admin, metrics: programs may read them.
void PrintStart(const std::string& version, const std::string& isa,
                const Config& config, const Addresses& addresses);

// A table of what is served, then the line `serving`.
void PrintModels(const std::vector<ModelInfo>& models);

// {"inference": "HOST:PORT", "admin": ..., "metrics": ...}; whoever sees the
// file sees all of it. Nothing if `path` is empty.
// Errors: kInvalidArgument when it can't be written.
absl::Status WritePorts(const std::string& path, const Addresses& addresses);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ANNOUNCE_H_
