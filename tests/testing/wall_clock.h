// A wall clock that a test sets, for its own process: linked in, it takes the
// place of clock_gettime(CLOCK_REALTIME). The monotonic clock stays the
// system's.
#ifndef OUNCE_TESTS_TESTING_WALL_CLOCK_H_
#define OUNCE_TESTS_TESTING_WALL_CLOCK_H_

#include "absl/time/time.h"

namespace ounce::testing {

// From now on the wall clock is `offset` from the system's.
void SetWallClockOffset(absl::Duration offset);

// The variable that names the file of the offset (8 bytes, nanoseconds) for a
// program that runs with the same code preloaded.
inline constexpr char kWallClockFile[] = "OUNCE_TEST_WALL_CLOCK";

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_WALL_CLOCK_H_
