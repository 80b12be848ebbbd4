// The metrics of one served model, as its scheduler tells them.
//
// Ownership: `series` must outlive the calls of these functions, not their
//   results.
#ifndef OUNCE_SERVER_METRICS_MODEL_METRICS_H_
#define OUNCE_SERVER_METRICS_MODEL_METRICS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/metrics/series.h"
#include "server/scheduler/detect_request.h"
#include "server/scheduler/stats.h"

namespace ounce::server {

std::unique_ptr<SchedulerObserver> MakeSchedulerMetrics(
    Series& series, const std::string& model);

std::unique_ptr<DetectObserver> MakeDetectMetrics(Series& series,
                                                  const std::string& model);

// How a request ended that no scheduler accepted, as the label's value.
const char* RejectedOutcome(const absl::Status& why);

// The values of RejectedOutcome.
inline constexpr const char* kRejectedOutcomes[] = {
    "cancelled", "deadline_exceeded", "rejected"};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_MODEL_METRICS_H_
