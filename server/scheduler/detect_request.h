// What travels from the service to a detector's scheduler and back: plain
// values, no protobuf, no model.
#ifndef OUNCE_SERVER_SCHEDULER_DETECT_REQUEST_H_
#define OUNCE_SERVER_SCHEDULER_DETECT_REQUEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "image/rgb8.h"
#include "server/scheduler/picture_memory.h"

namespace ounce::server {

// A picture ready for the model that it was prepared for.
struct Picture {
  PictureMemory::Reservation memory;  // of rgb
  image::Rgb8 rgb;
  // Pixels of the picture that came in: boxes are in these.
  int64_t original_height = 0;
  int64_t original_width = 0;

  int64_t num_pixels() const { return rgb.height() * rgb.width(); }
};

// Checked by the service; ranges and meaning as in inference.proto.
struct DetectParams {
  std::string peer;  // who asks, for fair shares; "" is one too
  Picture picture;
  float threshold = 0.9f;
  int64_t max_detections = 100;
  absl::Time arrival;
  absl::Duration decode;  // that reading the picture took since then
  absl::Time deadline = absl::InfiniteFuture();
  bool servers_deadline = false;  // and not the caller's
};

struct DetectedObject {
  std::string label;
  int64_t label_id = 0;
  float score = 0;
  float x_min = 0, y_min = 0, x_max = 0, y_max = 0;
};

struct DetectResult {
  std::vector<DetectedObject> objects;  // best first
  int64_t image_height = 0;             // of the picture that came in
  int64_t image_width = 0;
  absl::Duration queued;  // total less decode and in_model
  absl::Duration read;    // when the picture stood in the model's queue
  absl::Duration decode;  // until then
  absl::Duration began;   // when its batch had the machine for the first time
  absl::Duration in_model;
  absl::Duration total;
  int64_t model_version = 0;
  std::string method;
};

// Whoever waits for one request's answer.
//
// Threads: called on the engine's thread, or on the one that calls Cancel; must
//   not block or call the scheduler.
// Ownership: must live until OnDone returns.
class DetectSink {
 public:
  virtual ~DetectSink() = default;

  // Exactly once. `result` is meaningful if status is OK, and all of it but the
  // objects if the model has worked for nothing (model_version is not 0);
  // otherwise the status is what Cancel gave, kDeadlineExceeded, kUnavailable,
  // kResourceExhausted, kFailedPrecondition (not_finite.h) or kInternal. The
  // picture's memory is given back before.
  virtual void OnDone(const absl::Status& status, DetectResult result) = 0;
};

struct DetectStats {
  int64_t queued = 0;    // pictures
  int64_t running = 0;   // pictures of the batch that runs
  int64_t detected = 0;  // pictures of batches that went well, since the start
  bool operator==(const DetectStats&) const = default;
};

// Threads: any, and several at a time, but for OnStats; first on the one that
//   creates the scheduler, none after Drain returned; must not block.
//   Implemented by server/metrics, one per model.
class DetectObserver {
 public:
  virtual ~DetectObserver() = default;
  // A batch that went well.
  virtual void OnBatch(int64_t pictures, absl::Duration in_model) = 0;
  // Once per accepted request; status as given to the sink.
  virtual void OnDone(const absl::Status& status,
                      const DetectResult& result) = 0;
  // At the start, and whenever they change.
  virtual void OnStats(const DetectStats& stats) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_DETECT_REQUEST_H_
