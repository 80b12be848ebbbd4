#include "client/interrupt.h"

#include <pthread.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/status/statusor.h"
#include "base/thread.h"

namespace ounce::client {
namespace {

// Wakes the thread; nobody else sends it.
constexpr int kEnd = SIGUSR2;

}  // namespace

Interrupt::Interrupt() {
  sigemptyset(&signals_);
  sigaddset(&signals_, kEnd);
  for (const int signal : {SIGINT, SIGTERM}) {
    struct sigaction now = {};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler != SIG_IGN) sigaddset(&signals_, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  absl::StatusOr<std::thread> thread =
      StartThread("signals", [this] { Listen(); });
  if (thread.ok()) {
    thread_ = *std::move(thread);
  } else {  // then the signals do what they do by default
    pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
  }
}

Interrupt::~Interrupt() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(&mu_);
    ended_ = true;
  }
  pthread_kill(thread_.native_handle(), kEnd);
  thread_.join();
}

void Interrupt::Watch(std::shared_ptr<Client> client) {
  MutexLock lock(&mu_);
  client_ = std::move(client);
}

void Interrupt::EndIfCaught() {
  int signal = 0;
  {
    MutexLock lock(&mu_);
    signal = caught_;
  }
  if (signal != 0) EndBy(signal);
}

void Interrupt::EndBy(int signal) const {
  ::signal(signal, SIG_DFL);
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal);
  pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  raise(signal);
  _exit(128 + signal);
}

void Interrupt::Listen() {
  while (true) {
    int signal = 0;
    sigwait(&signals_, &signal);
    MutexLock lock(&mu_);
    if (ended_) return;
    if (signal == kEnd) continue;
    const bool second = caught_ != 0;
    caught_ = signal;
    if (second || client_ == nullptr || !client_->Cancel()) EndBy(signal);
  }
}

}  // namespace ounce::client
