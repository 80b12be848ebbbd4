// When a client's deadline counts as passed.
#ifndef OUNCE_SERVER_SERVICE_DEADLINE_H_
#define OUNCE_SERVER_SERVICE_DEADLINE_H_

#include "absl/time/time.h"

namespace ounce::server {

// A client gives up when its deadline passes, and its word may arrive a moment
// before the server's own clock says so: that is a passed deadline, not a
// cancellation.
inline constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(20);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_DEADLINE_H_
