// Time as an interface, so that tests own it.
#ifndef OUNCE_BASE_CLOCK_H_
#define OUNCE_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace ounce {

// For deadlines and durations alone: Now() never goes back and never jumps,
// whatever the system's clock is set to meanwhile. So it may stand apart from
// the system's clock: it is not for people to read, nor for interfaces that
// compare a time with the system's clock.
//
// Threads: any thread may call anything.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;

  // The system's clock as it was at the first call, and from there on by the
  // monotonic clock; lives for ever.
  static const Clock& Real();
};

}  // namespace ounce

#endif  // OUNCE_BASE_CLOCK_H_
