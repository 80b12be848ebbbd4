// What the services check before anything else sees a request: every field
// against the range that the proto files promise. How many bytes and elements
// there may be has been seen to before (request_limits.h).
//
// Errors: kInvalidArgument by FieldError: the field, what it must be, what it
//   is.
#ifndef OUNCE_SERVER_SERVICE_CHECKS_H_
#define OUNCE_SERVER_SERVICE_CHECKS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/generation_defaults.h"
#include "ounce/v1/inference.pb.h"
#include "ounce/v1/model_admin.pb.h"
#include "server/scheduler/detect_request.h"
#include "server/scheduler/detection_evaluator.h"
#include "server/scheduler/model_catalog.h"
#include "server/scheduler/request.h"
#include "server/scheduler/text_evaluator.h"

namespace ounce::server {

inline constexpr int kDefaultNewTokens = 256;

// 1 to 64 characters of letters, digits, '.', '_', '-'.
absl::Status CheckModelName(absl::string_view field, absl::string_view name);

// Everything of a request but its prompt, with the model's defaults where it
// says nothing; `max_new_tokens_cap` is the server's. The result's seed and
// max_new_tokens are unset, its prompt empty.
absl::StatusOr<GenerateParams> CheckGenerate(
    const v1::GenerateRequest& request,
    const model::GenerationDefaults& defaults, int64_t max_new_tokens_cap);

// How many new tokens a request that CheckGenerate let pass may get after a
// prompt of so many.
absl::StatusOr<int64_t> CheckNewTokens(
    const v1::GenerateRequest& request,
    const model::GenerationDefaults& defaults, int64_t max_new_tokens_cap,
    int64_t prompt_tokens);

// Everything of a request but its picture, and when it came.
absl::StatusOr<DetectParams> CheckDetect(
    const v1::DetectObjectsRequest& request);

// Each id in [0, vocabulary_size).
absl::Status CheckTokenIds(absl::string_view field,
                           absl::Span<const int32_t> ids,
                           int64_t vocabulary_size);

// Room for a new token after a prompt of so many.
absl::Status CheckPromptLength(absl::string_view field, int64_t num_tokens,
                               int64_t max_positions);

// Everything but `proceed`.
absl::StatusOr<LoadParams> CheckLoad(const v1::LoadModelRequest& request);

// Everything of a request but its pictures, and whether its samples are for the
// model. Moves the texts out of it.
absl::StatusOr<QuantizeParams> CheckQuantize(v1::QuantizeRequest& request);

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
