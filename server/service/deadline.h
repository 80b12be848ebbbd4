// A client's deadline on our clock, and when it counts as passed.
#ifndef OUNCE_SERVER_SERVICE_DEADLINE_H_
#define OUNCE_SERVER_SERVICE_DEADLINE_H_

#include <grpc/support/time.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"

namespace ounce::server {

// `deadline` as ServerContext::raw_deadline() gives it: on gRPC's monotonic
// clock, so that a step of the system's clock does not move it. One that is
// too far for gRPC's own clock means none.
inline absl::Time FromGrpcDeadline(gpr_timespec deadline, const Clock& clock) {
  if (deadline.tv_sec == INT64_MAX) return absl::InfiniteFuture();
  const gpr_timespec now = gpr_now(deadline.clock_type);
  return clock.Now() + absl::Seconds(deadline.tv_sec) -
         absl::Seconds(now.tv_sec) +
         absl::Nanoseconds(deadline.tv_nsec - now.tv_nsec);
}

// The moment `duration` from now, for a deadline that gRPC is given.
inline gpr_timespec ToGrpcDeadline(absl::Duration duration) {
  return gpr_time_add(
      gpr_now(GPR_CLOCK_MONOTONIC),
      gpr_time_from_nanos(absl::ToInt64Nanoseconds(duration), GPR_TIMESPAN));
}

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

#endif  // OUNCE_SERVER_SERVICE_DEADLINE_H_
