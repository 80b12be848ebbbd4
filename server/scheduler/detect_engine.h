// The computing side that a detector's scheduler drives, without a model in
// sight, so that scheduling is tested with a fake.
#ifndef OUNCE_SERVER_SCHEDULER_DETECT_ENGINE_H_
#define OUNCE_SERVER_SCHEDULER_DETECT_ENGINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/scheduler/detect_request.h"

namespace ounce::server {

// One picture's part of a batch.
struct DetectItem {
  const Picture* picture = nullptr;
  float threshold = 0;
  int64_t max_detections = 0;
};

struct DetectBatch {
  std::vector<std::vector<DetectedObject>> objects;  // by item, best first
  absl::Duration waited;    // for the first turn of the machine
  absl::Duration in_model;  // in all turns, without the waits between them
};

struct DetectEngineInfo {
  int64_t model_version = 0;
  std::string method;
};

// One version of a model.
//
// Threads: Run and ReleaseMemory on one thread; info from any.
class DetectEngine {
 public:
  virtual ~DetectEngine() = default;
  virtual const DetectEngineInfo& info() const = 0;

  // Finds objects in all of them. Errors are kInternal, kResourceExhausted or
  // kFailedPrecondition (not_finite.h) and concern all pictures of the batch.
  virtual absl::Status Run(absl::Span<const DetectItem> items,
                           DetectBatch* batch) = 0;

  // Nothing has come for a while: working memory goes back to the system.
  virtual void ReleaseMemory() = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_DETECT_ENGINE_H_
