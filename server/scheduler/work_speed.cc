#include "server/scheduler/work_speed.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

// "1.2s", "35ms"
std::string Rounded(absl::Duration duration) {
  return absl::FormatDuration(absl::Trunc(
      duration, duration < absl::Seconds(1) ? absl::Milliseconds(1)
                                            : absl::Milliseconds(100)));
}

}  // namespace

void WorkSpeed::Note(double pieces, double size, absl::Duration took,
                     absl::Time now) {
  if (now - last_ > kForgotten) *this = WorkSpeed();
  last_ = now;
  if (pieces > 0) {
    static const double kKept = std::exp2(-1 / kHalfLife);
    for (double* const sum : {&pieces_, &size_, &seconds_}) *sum *= kKept;
    ++rounds_;
  }
  pieces_ += pieces;
  size_ += size;
  seconds_ += absl::ToDoubleSeconds(took);
}

absl::Duration WorkSpeed::AtLeast(double pieces, double size,
                                  absl::Time now) const {
  if (rounds_ < kEnoughRounds || now - last_ > kForgotten) {
    return absl::ZeroDuration();
  }
  return absl::Seconds(seconds_ * std::min(pieces / pieces_, size / size_));
}

absl::Status CheckInTime(absl::string_view what, absl::Duration predicted,
                         absl::Duration left) {
  // Whose deadline has passed already hears that.
  if (left <= absl::ZeroDuration() || predicted / 2 <= left) {
    return absl::OkStatus();
  }
  return Refusal(
      Reason::kDeadlineTooSoon,
      absl::StrCat(what, " would come in about ", Rounded(predicted),
                   " at the speed of late, and the deadline is in ",
                   Rounded(left), ": try again later, or give it more time"));
}

}  // namespace ounce::server
