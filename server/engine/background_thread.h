// Work that must not slow down serving, and that may never come back: reading,
// loading and quantizing checkpoints.
#ifndef OUNCE_SERVER_ENGINE_BACKGROUND_THREAD_H_
#define OUNCE_SERVER_ENGINE_BACKGROUND_THREAD_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ounce::server {

// What work in the background may ask whoever waits for it.
//
// Threads: the one that works; CheckProceed any.
class Waiter {
 public:
  virtual ~Waiter() = default;

  // The error that ends the work, if there is one. Cheap.
  virtual absl::Status CheckProceed() = 0;

  // Runs `question` on the thread that waits, and returns its answer; or, when
  // nobody waits any more, the error that ended the work.
  virtual absl::Status Ask(const std::function<absl::Status()>& question) = 0;
};

struct BackgroundOptions {
  // How often `proceed` is asked while nothing happens.
  absl::Duration interval = absl::Milliseconds(50);
  // How long work has to notice that it is no longer wanted.
  absl::Duration patience = absl::Seconds(2);
};

// Runs `work` on a thread of its own with low priority, waits for it and
// returns its status.
//
// Linux gives a thread of 10 nice levels more about a tenth of the CPU time of
// a normal one that wants to run too, and all of it when none does. A thread of
// its own, because a process without privileges can't raise a priority again
// that it has lowered.
//
// `proceed` is asked on the caller's thread; its first error ends the work. If
// the work has not ended after `patience`, it hangs, as reading from a file
// system that does not answer does: it is left behind with its thread, which
// ends when it comes back or with the process, and the caller gets the error.
//
// Requires that `work` uses nothing of the caller's but inside Waiter::Ask;
// with infinite patience it may.
// Errors: kResourceExhausted when there is no thread to be had; those of
//   `proceed` and `work`, and for what they throw those of Guarded.
absl::Status RunInBackground(std::function<absl::Status(Waiter&)> work,
                             const std::function<absl::Status()>& proceed,
                             const BackgroundOptions& options = {});

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_BACKGROUND_THREAD_H_
