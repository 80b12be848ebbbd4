// What ModelAdmin.GetServer tells.
#ifndef OUNCE_SERVER_SERVICE_SERVER_INFO_H_
#define OUNCE_SERVER_SERVICE_SERVER_INFO_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace ounce::server {

// Fields as in model_admin.proto's Server.
struct ServerInfo {
  std::string version;
  std::string instruction_set;
  int64_t threads = 0;
  std::string compute;
  absl::Time start;  // by the system's clock
  absl::Duration uptime;
  int64_t memory_limit_bytes = 0;
  int64_t memory_used_bytes = 0;
  std::string config;
  double cpu_seconds = 0;
  std::optional<double> energy_joules;
  std::string save_root;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_SERVER_INFO_H_
