// When a client's deadline counts as passed, and why it no longer waits.
#ifndef OUNCE_SERVER_FRONTEND_GAVE_UP_H_
#define OUNCE_SERVER_FRONTEND_GAVE_UP_H_

#include <algorithm>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ounce::server {

// Whether a client that gave up did so because of its deadline. Its word may
// come before the deadline has passed by the server's clock: that runs since
// the call's arrival, which takes its time on a busy machine, and gRPC's
// libraries tell the server up to 1 % more than the client gave. So it may be
// early by 50 ms, or by 1 % of the time that it gave, a second at most.
inline bool GaveUpAtDeadline(absl::Time arrival, absl::Time deadline,
                             absl::Time now) {
  const absl::Duration early = std::clamp(
      (deadline - arrival) / 100, absl::Milliseconds(50), absl::Seconds(1));
  return now + early >= deadline;
}

// Whether a call's deadline has ended it; `gave_up`: its client has gone.
inline bool EndedByDeadline(bool gave_up, absl::Time arrival,
                            absl::Time deadline, absl::Time now) {
  return gave_up ? GaveUpAtDeadline(arrival, deadline, now) : deadline <= now;
}

// Why a call is over whose client no longer waits for it.
inline absl::Status WhyGivenUp(absl::Time arrival, absl::Time deadline,
                               absl::Time now) {
  return GaveUpAtDeadline(arrival, deadline, now)
             ? absl::DeadlineExceededError("the deadline passed")
             : absl::CancelledError("the client cancelled the call");
}

}  // namespace ounce::server

#endif  // OUNCE_SERVER_FRONTEND_GAVE_UP_H_
