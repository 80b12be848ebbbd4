// SIGTERM, SIGINT and SIGHUP, as something to wait for, and the time that a
// stop may take.
#ifndef OUNCE_SERVER_STOP_SIGNAL_H_
#define OUNCE_SERVER_STOP_SIGNAL_H_

#include <signal.h>

#include <functional>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace ounce::server {

// How the process ends.
inline constexpr int kExitStopped = 0;  // as it was told
inline constexpr int kExitCannotServe = 1;
inline constexpr int kExitUsage = 2;     // wrong flags, or file of --config
inline constexpr int kExitCutShort = 3;  // a stop took longer than it may

// The first signal ends Wait; before Ready it ends the process, and so does the
// second, at once, with status 128 + signal. (A second SIGHUP does not, nor
// what comes within 0.1 s of the first: a shell and its terminal may send one
// each, and timeout(1) sends two. Where SIGHUP is ignored, as by nohup, it
// stays so.)
//
// From the first signal on the process has `patience` until it ends, and from
// Answered on a second at most. Then it is ended from here, whatever it waits
// for: with kExitStopped after Answered, else with kExitCutShort.
//
// Threads: to be made before any other thread, so that all of them leave the
//   signals to it. Answered, Ready and Wait: one thread. `before_exit` is
//   called on a thread of its own before it ends the process.
// Errors: kResourceExhausted without a thread.
class StopSignal {
 public:
  static absl::StatusOr<std::unique_ptr<StopSignal>> Create(
      absl::Duration patience, std::function<void()> before_exit);
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  void Ready();
  void Wait();
  // All requests have had their answer.
  void Answered();

 private:
  StopSignal(absl::Duration patience, std::function<void()> before_exit);

  void Listen();
  void OnSignal(int signal) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  [[noreturn]] void Exit(int code);

  const absl::Duration patience_;
  const std::function<void()> before_exit_;
  sigset_t signals_;
  Mutex mu_;
  CondVar changed_;
  bool ready_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time stopped_at_ ABSL_GUARDED_BY(mu_);
  bool answered_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time end_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  bool ended_ ABSL_GUARDED_BY(mu_) = false;  // the destructor runs
  std::thread thread_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_STOP_SIGNAL_H_
