// Engines that share the machine take turns, step by step, in the order in
// which they asked.
//
// A mutex alone would not do: whoever gives it up and wants it again at once
// nearly always gets it, and a busy model would starve the others.
//
// Threads: any.
#ifndef OUNCE_SERVER_ENGINE_STEP_TURNS_H_
#define OUNCE_SERVER_ENGINE_STEP_TURNS_H_

#include <cstdint>

#include "base/mutex.h"

namespace ounce::server {

class StepTurns {
 public:
  void Begin() {
    MutexLock lock(&mu_);
    const uint64_t ticket = next_ticket_++;
    while (serving_ != ticket) changed_.Wait(&mu_);
  }
  void End() {
    {
      MutexLock lock(&mu_);
      ++serving_;
    }
    changed_.SignalAll();
  }

 private:
  Mutex mu_;
  CondVar changed_;
  uint64_t next_ticket_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t serving_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_STEP_TURNS_H_
