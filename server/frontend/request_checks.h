// Every field of a request against the range that inference.proto promises, and
// what the absent ones are.
//
// Errors: kInvalidArgument by FieldError: the field, by its name in
//   inference.proto, what it must be, what it is.
#ifndef OUNCE_SERVER_FRONTEND_REQUEST_CHECKS_H_
#define OUNCE_SERVER_FRONTEND_REQUEST_CHECKS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/generation_defaults.h"
#include "server/frontend/requests.h"
#include "server/scheduler/detect_request.h"
#include "server/scheduler/request.h"

namespace ounce::server {

inline constexpr int kDefaultNewTokens = 256;

// Everything of a request but its prompt, with the model's defaults where it
// says nothing; `max_new_tokens_cap` is the server's. The result's
// max_new_tokens is unset, its prompt empty, its seed 0 if there is none.
absl::StatusOr<GenerateParams> CheckGenerate(
    const GenerateRequest& request, const model::GenerationDefaults& defaults,
    int64_t max_new_tokens_cap);

// How many new tokens a request that CheckGenerate let pass may get after a
// prompt of so many.
absl::StatusOr<int64_t> CheckNewTokens(
    const GenerateRequest& request, const model::GenerationDefaults& defaults,
    int64_t max_new_tokens_cap, int64_t prompt_tokens);

// Everything of a request but its picture, and when it came.
absl::StatusOr<DetectParams> CheckDetect(const DetectRequest& request);

// Each id in [0, vocabulary_size).
absl::Status CheckTokenIds(absl::string_view field,
                           absl::Span<const int32_t> ids,
                           int64_t vocabulary_size);

// Room for a new token after a prompt of so many, and no more of them than the
// server takes (`max_tokens`).
absl::Status CheckPromptLength(absl::string_view field, int64_t num_tokens,
                               int64_t max_tokens, int64_t max_positions);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_FRONTEND_REQUEST_CHECKS_H_
