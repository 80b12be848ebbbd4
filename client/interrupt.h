// SIGINT (Ctrl-C) and SIGTERM, for a program that has calls to cancel.
#ifndef OUNCE_CLIENT_INTERRUPT_H_
#define OUNCE_CLIENT_INTERRUPT_H_

#include <signal.h>

#include <memory>
#include <thread>

#include "base/mutex.h"
#include "client/client.h"

namespace ounce::client {

// The first signal cancels the client's calls, so that the program can say what
// became of them. Where there is none, and at the second signal, the program
// ends at once, by that signal. Signals that were ignored stay so (nohup).
//
// Threads: to be made before any other thread, so that all of them leave the
//   signals to it.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // Whose calls to cancel.
  void Watch(std::shared_ptr<Client> client);

  // Ends the program by the signal that came, as a shell expects of it; returns
  // if none came.
  void EndIfCaught();

 private:
  void Listen();
  [[noreturn]] void EndBy(int signal) const;

  sigset_t signals_;
  Mutex mu_;
  std::shared_ptr<Client> client_ ABSL_GUARDED_BY(mu_);
  int caught_ ABSL_GUARDED_BY(mu_) = 0;      // the signal; 0: none
  bool ended_ ABSL_GUARDED_BY(mu_) = false;  // the destructor runs
  std::thread thread_;
};

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_INTERRUPT_H_
