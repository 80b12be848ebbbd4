// The metrics of one served model, as what its scheduler tells.
#ifndef OUNCE_SERVER_METRICS_MODEL_METRICS_H_
#define OUNCE_SERVER_METRICS_MODEL_METRICS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/metrics/families.h"
#include "server/scheduler/detect_request.h"
#include "server/scheduler/stats.h"

namespace ounce::server {

std::unique_ptr<SchedulerObserver> MakeSchedulerMetrics(
    std::shared_ptr<Families> families, const std::string& model);

std::unique_ptr<DetectObserver> MakeDetectMetrics(
    std::shared_ptr<Families> families, const std::string& model);

// How a DetectObjects ended that no scheduler accepted, as the label's value.
const char* RejectedOutcome(const absl::Status& why);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_MODEL_METRICS_H_
