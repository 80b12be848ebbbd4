// The evaluations of a model that is about to stop, which end within a step.
#ifndef OUNCE_SERVER_ENGINE_EVALUATIONS_H_
#define OUNCE_SERVER_ENGINE_EVALUATIONS_H_

#include "absl/status/status.h"
#include "base/mutex.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {

// Threads: any.
class Evaluations {
 public:
  // One that runs.
  class Running {
   public:
    explicit Running(Evaluations& all) : all_(all) {
      MutexLock lock(&all_.mu_);
      ++all_.running_;
    }
    ~Running() {
      MutexLock lock(&all_.mu_);
      --all_.running_;
      all_.ended_.SignalAll();
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

    // kUnavailable once they are to end.
    absl::Status CheckWanted() const {
      MutexLock lock(&all_.mu_);
      return all_.ending_ ? NotServedAnyMore() : absl::OkStatus();
    }

   private:
    Evaluations& all_;
  };

  void End() {
    MutexLock lock(&mu_);
    ending_ = true;
  }
  void AwaitEnd() {
    MutexLock lock(&mu_);
    while (running_ > 0) ended_.Wait(&mu_);
  }

 private:
  Mutex mu_;
  CondVar ended_;  // one has
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  int running_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_EVALUATIONS_H_
