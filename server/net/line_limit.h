// How often somebody writes to the log; lines that are left out are counted.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_NET_LINE_LIMIT_H_
#define OUNCE_SERVER_NET_LINE_LIMIT_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "server/net/token_bucket.h"

namespace ounce::server {

class LineLimit {
 public:
  LineLimit(const TokenBucket::Rate& rate, absl::Time now)
      : lines_(rate, now) {}

  // How many were left out before the line that may be written now; nothing:
  // this one is left out too.
  std::optional<int64_t> Take(absl::Time now) {
    MutexLock lock(&mu_);
    if (!lines_.Take(now)) {
      ++left_out_;
      return std::nullopt;
    }
    return std::exchange(left_out_, 0);
  }

 private:
  Mutex mu_;
  TokenBucket lines_ ABSL_GUARDED_BY(mu_);
  int64_t left_out_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_NET_LINE_LIMIT_H_
