// Whether a new version is good enough to serve.
#ifndef OUNCE_SERVER_ENGINE_QUALITY_LIMITS_H_
#define OUNCE_SERVER_ENGINE_QUALITY_LIMITS_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

// Fewer predicted tokens tell next to nothing of a version.
inline constexpr int64_t kFewestCountedTokens = 64;

// That a quantization's samples and limits are of what the model does.
// Errors: kFailedPrecondition naming the field.
absl::Status CheckSamplesAreFor(const ModelInfo& info,
                                const QuantizeParams& params);

// Errors: kFailedPrecondition saying, of each limit that is exceeded, the limit
//   and what was measured.
// Requires a quality, compared with floats, for each limit.
absl::Status CheckQuality(const QualityLimits& limits,
                          const std::optional<TextQuality>& text,
                          const std::optional<DetectionQuality>& detection);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_QUALITY_LIMITS_H_
