// Time as an interface, so that tests own it.
#ifndef OUNCE_BASE_CLOCK_H_
#define OUNCE_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace ounce {

// Threads: any thread may call anything.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;

  // The system's clock; lives for ever.
  static const Clock& Real();
};

}  // namespace ounce

#endif  // OUNCE_BASE_CLOCK_H_
