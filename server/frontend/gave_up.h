// When a client's deadline counts as passed, and why it no longer waits.
#ifndef OUNCE_SERVER_FRONTEND_GAVE_UP_H_
#define OUNCE_SERVER_FRONTEND_GAVE_UP_H_

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ounce::server {

// A client gives up when its deadline passes, and its word may arrive a moment
// before the server's own clock says so: that is a passed deadline, not a
// cancellation.
inline constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(20);

inline bool GaveUpAtDeadline(absl::Time deadline, absl::Time now) {
  return now + kDeadlineSlack >= deadline;
}

// Why a call is over whose client no longer waits for it.
inline absl::Status WhyGivenUp(absl::Time deadline, absl::Time now) {
  return GaveUpAtDeadline(deadline, now)
             ? absl::DeadlineExceededError("the deadline passed")
             : absl::CancelledError("the client cancelled the call");
}

}  // namespace ounce::server

#endif  // OUNCE_SERVER_FRONTEND_GAVE_UP_H_
