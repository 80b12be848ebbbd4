// SIGTERM and SIGINT, as something to wait for.
#ifndef OUNCE_SERVER_STOP_SIGNAL_H_
#define OUNCE_SERVER_STOP_SIGNAL_H_

#include <signal.h>

#include <thread>

#include "base/mutex.h"

namespace ounce::server {

// The first signal after Wait began, or before, ends Wait; before Ready it ends
// the process, and so does the second: at once, with status 128 + signal.
//
// Threads: to be made before any other thread, so that all of them leave the
//   signals to it. Wait and Ready: one thread.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  void Ready();
  void Wait();

 private:
  void Listen();

  sigset_t signals_;
  Mutex mu_;
  CondVar changed_;
  bool ready_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;  // the destructor runs
  std::thread thread_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_STOP_SIGNAL_H_
