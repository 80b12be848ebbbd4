// What /status.json says, for the page at / and whoever else reads it. Its
// fields are documented in docs/metrics.md; names never change.
#ifndef OUNCE_SERVER_METRICS_STATUS_JSON_H_
#define OUNCE_SERVER_METRICS_STATUS_JSON_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

// What is asked from above the metrics.
struct ServerStatus {
  int64_t threads = 0;
  absl::Time time = {};        // by the system's clock,
  absl::Time clock_time = {};  // and by the catalog's, at the same moment
  absl::Duration uptime = {};
  MemoryBudget::State memory = {};
  std::vector<ModelInfo> models = {};  // by name
};

// What the metrics have counted of a model.
struct ModelCounts {
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  std::map<std::string, int64_t> requests = {};  // by outcome
  std::string stage = {};                        // of a quantization that runs
};

struct MeasuredStatus {
  std::string version = {};  // of Ounce
  std::string instruction_set = {};
  std::string phase = {};  // "starting", "serving" or "stopping"
  std::vector<std::string> not_ready = {};  // why
  int64_t resident_bytes = 0;
  std::map<std::string, ModelCounts> models = {};
};

// What is more is left out, and the text says so; what is longer is cut. So it
// is below 2 MiB.
struct StatusBounds {
  static constexpr size_t kModels = 64;
  static constexpr size_t kVersions = 512;  // of all models together,
  static constexpr size_t kLayers = 2048;   // in even parts
  static constexpr size_t kLayersOfModel = 512;
  static constexpr size_t kTextBytes = 256;
  static constexpr size_t kLayerTextBytes = 128;
};

// Says no path and no text of a request or a sample.
std::string StatusJson(const ServerStatus& status,
                       const MeasuredStatus& measured);

// "loading", "ready", "quantizing" or "unloading"; goes into metrics too.
const char* ModelStateName(ModelState state);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_STATUS_JSON_H_
