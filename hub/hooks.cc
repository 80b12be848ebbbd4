#include "hub/hooks.h"

#include <algorithm>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status_macros.h"

namespace ounce::hub {

absl::Status Hooks::Wait(absl::Duration duration) const {
  if (wait) return wait(duration);
  constexpr absl::Duration kLook = absl::Milliseconds(100);
  const absl::Time end = Clock::Real().Now() + duration;
  Mutex mu;
  CondVar never;
  const MutexLock lock(&mu);
  while (true) {
    RETURN_IF_ERROR(Proceed());
    const absl::Duration left = end - Clock::Real().Now();
    if (left <= absl::ZeroDuration()) return absl::OkStatus();
    never.WaitFor(&mu, std::min(left, kLook));
  }
}

}  // namespace ounce::hub
