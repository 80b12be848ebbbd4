// How many calls there are, to wait until there are none.
#ifndef OUNCE_SERVER_FRONTEND_CALL_COUNT_H_
#define OUNCE_SERVER_FRONTEND_CALL_COUNT_H_

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace ounce::server {

// Threads: any.
class CallCount {
 public:
  void Add() {
    MutexLock lock(&mu_);
    ++count_;
  }
  void Remove() {
    MutexLock lock(&mu_);
    if (--count_ == 0) none_.SignalAll();
  }
  // Returns when there is none, or at `deadline`.
  void WaitForNone(absl::Time deadline, const Clock& clock) {
    MutexLock lock(&mu_);
    while (count_ > 0) {
      const absl::Duration left = deadline - clock.Now();
      if (left <= absl::ZeroDuration()) return;
      none_.WaitFor(&mu_, left);
    }
  }

 private:
  Mutex mu_;
  CondVar none_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_FRONTEND_CALL_COUNT_H_
