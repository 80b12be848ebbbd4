// What whoever has the hub asked for something gives it to work with.
#ifndef OUNCE_HUB_HOOKS_H_
#define OUNCE_HUB_HOOKS_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ounce::hub {

// Threads: both may be called from several threads at once.
struct Hooks {
  // Whether the work is still wanted: an error ends it with that error. Empty:
  // always.
  std::function<absl::Status()> proceed;
  // Lets the time pass, before something is tried again. Empty: by the
  // monotonic clock, asking `proceed` now and then.
  std::function<absl::Status(absl::Duration)> wait;

  absl::Status Proceed() const {
    return proceed ? proceed() : absl::OkStatus();
  }
  // Errors: what `proceed` or `wait` says.
  absl::Status Wait(absl::Duration duration) const;
};

}  // namespace ounce::hub

#endif  // OUNCE_HUB_HOOKS_H_
