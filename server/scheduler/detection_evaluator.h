// How well a model detects objects: what is asked, and what comes back.
#ifndef OUNCE_SERVER_SCHEDULER_DETECTION_EVALUATOR_H_
#define OUNCE_SERVER_SCHEDULER_DETECTION_EVALUATOR_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/scheduler/detect_request.h"

namespace ounce::server {

// Fields as in model_admin.proto's CocoAveragePrecision; -1 for what is absent
// there.
struct CocoAveragePrecision {
  double ap = -1;
  double ap50 = -1;
  double ap75 = -1;
  double ap_small = -1;
  double ap_medium = -1;
  double ap_large = -1;
};

// Fields as in model_admin.proto's DetectionQuality.
struct DetectionQuality {
  int64_t pictures = 0;
  int64_t float_detections = 0;
  int64_t quantized_detections = 0;
  int64_t matched = 0;
  double mean_score_drift = 0;
  double mean_box_drift = 0;
  int64_t version = 0;
  std::string method = {};
  std::optional<CocoAveragePrecision> coco = {};
};

// Fields as in model_admin.proto's AnnotatedObject.
struct AnnotatedObject {
  int64_t picture = 0;
  std::string label;
  double x = 0, y = 0, width = 0, height = 0;
  double area = 0;
  bool crowd = false;
};

struct EvaluateDetectionParams {
  int64_t num_pictures = 0;
  // Reads picture i, prepared for the model; called once for each, in order,
  // on a thread of low priority.
  std::function<absl::StatusOr<Picture>(int64_t)> read_picture;
  bool compare_with_floats = false;
  // What the pictures show; none: precision is not measured.
  std::vector<AnnotatedObject> objects = {};
};

// Threads: any, several at a time.
class DetectionEvaluator {
 public:
  virtual ~DetectionEvaluator() = default;

  // Measures the version that serves now, whatever is swapped in meanwhile,
  // behind those who are served. `progress` is called with the number of
  // pictures done before each; an error from it ends the work with that error.
  // Errors: kInvalidArgument naming a field; kResourceExhausted when there is
  //   no memory for it, with figures; kUnavailable when the model stops to
  //   serve; kFailedPrecondition when floats are to be compared with and the
  //   checkpoint's files are no longer those that were loaded; those of
  //   `read_picture`.
  virtual absl::StatusOr<DetectionQuality> Evaluate(
      const EvaluateDetectionParams& params,
      const std::function<absl::Status(int64_t pictures_done)>& progress) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_DETECTION_EVALUATOR_H_
