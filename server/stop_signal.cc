#include "server/stop_signal.h"

#include <pthread.h>
#include <unistd.h>

namespace ounce::server {

StopSignal::StopSignal() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  sigaddset(&signals_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  thread_ = std::thread([this] { Listen(); });
}

StopSignal::~StopSignal() {
  {
    MutexLock lock(&mu_);
    ended_ = true;
  }
  pthread_kill(thread_.native_handle(), SIGTERM);
  thread_.join();
}

void StopSignal::Ready() {
  MutexLock lock(&mu_);
  ready_ = true;
}

void StopSignal::Wait() {
  MutexLock lock(&mu_);
  while (!stopping_) changed_.Wait(&mu_);
}

void StopSignal::Listen() {
  while (true) {
    int signal = 0;
    sigwait(&signals_, &signal);
    MutexLock lock(&mu_);
    if (ended_) return;
    if (!ready_ || stopping_) _exit(128 + signal);
    stopping_ = true;
    changed_.SignalAll();
  }
}

}  // namespace ounce::server
