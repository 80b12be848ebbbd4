#include "server/scheduler/retry.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace ounce::server {
namespace {

constexpr char kRetryPayload[] = "ounce.v1/retry-after-milliseconds";

// About as long as a short request takes.
constexpr int kRetryMilliseconds = 1000;

}  // namespace

absl::Status FullForNow(absl::string_view message) {
  absl::Status status = absl::ResourceExhaustedError(message);
  status.SetPayload(kRetryPayload,
                    absl::Cord(absl::StrCat(kRetryMilliseconds)));
  return status;
}

absl::Status NotServedAnyMore() {
  return absl::UnavailableError(
      "the model is being unloaded, or the server is shutting down");
}

std::optional<absl::Duration> RetryAfter(const absl::Status& status) {
  if (!status.GetPayload(kRetryPayload).has_value()) return std::nullopt;
  return absl::Milliseconds(kRetryMilliseconds);
}

}  // namespace ounce::server
