// Refusals that schedulers share: those that pass, with the word that a client
// may come back and when, and that of a model that takes no more requests.
#ifndef OUNCE_SERVER_SCHEDULER_RETRY_H_
#define OUNCE_SERVER_SCHEDULER_RETRY_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace ounce::server {

// kResourceExhausted that the same request may not meet a little later.
absl::Status FullForNow(absl::string_view message);

// kUnavailable, for requests that come or still run when a scheduler drains.
absl::Status NotServedAnyMore();

// When the caller of a refused request should come back; nothing if the same
// request will never be accepted.
std::optional<absl::Duration> RetryAfter(const absl::Status& status);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_RETRY_H_
