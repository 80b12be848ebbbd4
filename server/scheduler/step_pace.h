// How many tokens a step may have that computes prompts beside sequences that
// decode: so many that these wait for it about as long as they should, on this
// machine, with this model, under the load of late.
//
// A step costs something whatever its size: where that alone is much of the
// time, steps last twice as long as those without prompts, since smaller ones
// would spend nearly all of it on what does not bring prompts on. So that this
// is known where prompts never run out, there is a step without them now and
// then. And the longer a prompt has been computed, the longer steps last: few
// tokens of each are dear, so where prompts come faster than that they would
// pile up.
//
// Threads: one at a time.
#ifndef OUNCE_SERVER_SCHEDULER_STEP_PACE_H_
#define OUNCE_SERVER_SCHEDULER_STEP_PACE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/time/time.h"

namespace ounce::server {

class StepPace {
 public:
  // Steps with prompts, at most, from one without to the next.
  static constexpr int kMostMixed = 64;
  // When a prompt has been computed for so long, steps last twice as long; for
  // twice of it, three times.
  static constexpr absl::Duration kPatience = absl::Seconds(1);

  // Infinite: any time is right.
  explicit StepPace(absl::Duration wanted)
      : wanted_(absl::ToDoubleSeconds(wanted)) {}

  // A step of decoding sequences alone has ended.
  void NoteDecoding(absl::Duration took) {
    const double seconds = absl::ToDoubleSeconds(took);
    decoding_ += (decoding_ == 0 ? 1 : kLast) * (seconds - decoding_);
    num_mixed_ = 0;
  }

  // A step of so many tokens has ended, of prompts and of sequences that
  // decode: as many as it might have. What smaller ones take says little.
  void NoteMixed(int64_t tokens, absl::Duration took) {
    mixed_tokens_ += kLast * (static_cast<double>(tokens) - mixed_tokens_);
    mixed_seconds_ += kLast * (absl::ToDoubleSeconds(took) - mixed_seconds_);
    ++num_mixed_;
  }

  // Whether the next one should do without prompts, to see what that takes.
  bool IsDecodingDue() const {
    return !std::isinf(wanted_) && num_mixed_ >= kMostMixed;
  }

  // For the next one with prompts, the oldest of which was begun so long ago:
  // `at_first` before there was one, `at_most` if any time is right.
  int64_t Tokens(int64_t at_first, int64_t at_most,
                 absl::Duration oldest = absl::ZeroDuration()) const {
    if (std::isinf(wanted_)) return at_most;
    if (mixed_tokens_ == 0) return std::min(at_first, at_most);
    const double seconds = std::max(
        wanted_ * (1 + absl::FDivDuration(oldest, kPatience)), 2 * decoding_);
    const double per_token = mixed_seconds_ / mixed_tokens_;
    return per_token * static_cast<double>(at_most) <= seconds
               ? at_most
               : std::llround(seconds / per_token);
  }

 private:
  static constexpr double kLast = 0.25;  // what the last step weighs

  const double wanted_;  // seconds, of a step with prompts
  double decoding_ = 0;  // seconds, of one without; 0: unknown
  // Of those with prompts, means; their ratio is right from the first on.
  double mixed_tokens_ = 0;
  double mixed_seconds_ = 0;
  int num_mixed_ = 0;  // since there was one without
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_STEP_PACE_H_
