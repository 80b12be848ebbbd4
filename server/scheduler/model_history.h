// What became of a model since it was loaded.
#ifndef OUNCE_SERVER_SCHEDULER_MODEL_HISTORY_H_
#define OUNCE_SERVER_SCHEDULER_MODEL_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

// A version that serves, or has served. Its plan is the way back to it: a
// quantization by that plan gives the same weights again.
struct VersionRecord {
  int64_t version = 0;
  absl::Time since;  // when it began to serve, by the catalog's clock
  std::string plan;
  std::string method;  // the plan's label
  int64_t stored_bytes = 0;
  int64_t resident_bytes = 0;
  double seconds = 0;  // that it took to make
  // As measured last while it served.
  std::optional<TextQuality> quality = {};
  std::optional<DetectionQuality> detection = {};
};

// Threads: const once it is in a ModelInfo.
struct ModelHistory {
  // The last ones are kept.
  static constexpr size_t kMaxVersions = 32;
  std::vector<VersionRecord> versions;  // oldest first; the last one serves

  // How the last quantization ended that came to a report: a dry run's and a
  // refused one's too. Null: there was none.
  std::shared_ptr<const QuantizeReport> report;
  bool dry_run = false;
  absl::Time reported;  // by the catalog's clock
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_MODEL_HISTORY_H_
