// A client's deadline on our clock. When it counts as passed is in
// server/frontend/gave_up.h.
#ifndef OUNCE_SERVER_SERVICE_DEADLINE_H_
#define OUNCE_SERVER_SERVICE_DEADLINE_H_

#include <grpc/support/time.h>

#include <cstdint>

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

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_DEADLINE_H_
