// A budget that fills with time: so many at once, so many a second.
//
// Threads: one at a time.
#ifndef OUNCE_SERVER_NET_TOKEN_BUCKET_H_
#define OUNCE_SERVER_NET_TOKEN_BUCKET_H_

#include <algorithm>

#include "absl/time/time.h"

namespace ounce::server {

class TokenBucket {
 public:
  struct Rate {
    double burst;       // tokens it holds when full
    double per_second;  // tokens it gains
  };

  TokenBucket(const Rate& rate, absl::Time now)
      : rate_(rate), tokens_(rate.burst), filled_(now), last_enough_(now) {}

  // False, and takes nothing, when there is none. It may go below zero: who
  // takes much at once waits the longer afterwards.
  bool Take(absl::Time now, double tokens = 1) {
    Fill(now);
    if (tokens_ < 1) return false;
    tokens_ -= tokens;
    if (tokens_ >= rate_.burst / 4) last_enough_ = now;
    return true;
  }

  void Add(double tokens) { tokens_ = std::min(rate_.burst, tokens_ + tokens); }

  bool Full(absl::Time now) {
    Fill(now);
    return tokens_ >= rate_.burst;
  }

  // For how long it has had less than a quarter, as of the last Take.
  absl::Duration Short(absl::Time now) const { return now - last_enough_; }

 private:
  void Fill(absl::Time now) {
    Add(rate_.per_second * std::max(0.0, absl::ToDoubleSeconds(now - filled_)));
    filled_ = now;
    if (tokens_ >= rate_.burst / 4) last_enough_ = now;
  }

  Rate rate_;
  double tokens_;
  absl::Time filled_;
  absl::Time last_enough_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_NET_TOKEN_BUCKET_H_
