// What ModelAdmin checks before anything else sees a request: every field
// against the range that model_admin.proto promises. How many bytes and
// elements there may be has been seen to before (request_limits.h).
//
// Errors: kInvalidArgument by FieldError: the field, what it must be, what it
//   is.
#ifndef OUNCE_SERVER_SERVICE_CHECKS_H_
#define OUNCE_SERVER_SERVICE_CHECKS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ounce/v1/model_admin.pb.h"
#include "server/scheduler/detection_evaluator.h"
#include "server/scheduler/model_catalog.h"
#include "server/scheduler/text_evaluator.h"

namespace ounce::server {

// 1 to 64 characters of letters, digits, '.', '_', '-'.
absl::Status CheckModelName(absl::string_view field, absl::string_view name);

// Everything but `proceed`.
absl::StatusOr<LoadParams> CheckLoad(const v1::LoadModelRequest& request);

// Everything of a request but its pictures, and whether its samples are for the
// model. Moves the texts out of it.
absl::StatusOr<QuantizeParams> CheckQuantize(v1::QuantizeRequest& request);

// Everything but the format, and what is at the folder's path.
absl::StatusOr<SaveParams> CheckSave(const v1::SaveModelRequest& request);

// Everything but `proceed`.
absl::StatusOr<InspectParams> CheckInspect(const v1::InspectRequest& request);

// Everything of a request to a model of so many positions, but whether its text
// has the tokens that it takes. Moves the text out of it.
absl::StatusOr<EvaluateParams> CheckEvaluate(v1::EvaluateRequest& request,
                                             int64_t max_positions);

// Everything of a request with pictures but these.
absl::StatusOr<EvaluateDetectionParams> CheckEvaluateDetection(
    const v1::EvaluateRequest& request);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_CHECKS_H_
