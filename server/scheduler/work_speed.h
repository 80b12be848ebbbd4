// How fast work has gone of late, so that what can't be done in time is refused
// at once instead of being begun and thrown away.
//
// Work comes in pieces (steps, pictures, starts of requests), each of a size
// (tokens, pixels). A piece costs something whatever its size, and the rest by
// its size; in what parts, nobody knows. But a piece larger than those that
// were measured takes at least as long as they did, and a smaller one at least
// its part by size: so the lesser of the two is what it takes at least.
//
// Threads: one at a time.
#ifndef OUNCE_SERVER_SCHEDULER_WORK_SPEED_H_
#define OUNCE_SERVER_SCHEDULER_WORK_SPEED_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace ounce::server {

class WorkSpeed {
 public:
  // Rounds of work before anything is said.
  static constexpr int64_t kEnoughRounds = 4;
  // A round counts half after so many more.
  static constexpr double kHalfLife = 32;
  // What was measured so long ago says nothing about now.
  static constexpr absl::Duration kForgotten = absl::Seconds(10);

  // A round of work has ended: so many pieces, of that size together. One
  // without pieces only took its time.
  void Note(double pieces, double size, absl::Duration took, absl::Time now);

  // What so many pieces, of that size together, take at least at the speed of
  // late; zero when that is not known.
  absl::Duration AtLeast(double pieces, double size, absl::Time now) const;

 private:
  int64_t rounds_ = 0;
  double pieces_ = 0;
  double size_ = 0;
  double seconds_ = 0;
  absl::Time last_ = absl::InfinitePast();
};

// Whether `what` ("the first token"), predicted for so long from now, can come
// while there is `left`. Speeds change, so the benefit of the doubt is the
// caller's: only what would be too late in half the time is refused.
// Errors: Reason::kDeadlineTooSoon.
absl::Status CheckInTime(absl::string_view what, absl::Duration predicted,
                         absl::Duration left);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_WORK_SPEED_H_
