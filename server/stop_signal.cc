#include "server/stop_signal.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/thread.h"

namespace ounce::server {
namespace {

constexpr absl::Duration kAfterAnswers = absl::Seconds(1);
constexpr absl::Duration kSameStop = absl::Milliseconds(100);
constexpr timespec kLook = {.tv_sec = 0, .tv_nsec = 50'000'000};

bool IsIgnored(int signal) {
  struct sigaction action = {};
  sigaction(signal, nullptr, &action);
  return action.sa_handler == SIG_IGN;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StopSignal>> StopSignal::Create(
    absl::Duration patience, std::function<void()> before_exit) {
  std::unique_ptr<StopSignal> stop(
      new StopSignal(patience, std::move(before_exit)));
  absl::StatusOr<std::thread> thread =
      StartThread("ounce-signals", [raw = stop.get()] { raw->Listen(); });
  if (!thread.ok()) return thread.status();
  stop->thread_ = *std::move(thread);
  return stop;
}

StopSignal::StopSignal(absl::Duration patience,
                       std::function<void()> before_exit)
    : patience_(patience), before_exit_(std::move(before_exit)) {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  sigaddset(&signals_, SIGINT);
  if (!IsIgnored(SIGHUP)) sigaddset(&signals_, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
}

StopSignal::~StopSignal() {
  if (!thread_.joinable()) return;
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

void StopSignal::Answered() {
  MutexLock lock(&mu_);
  answered_ = true;
  end_ = std::min(end_, Clock::Real().Now() + kAfterAnswers);
}

void StopSignal::Listen() {
  bool stopping = false;
  while (true) {
    // While it stops: -1 when there is no signal for a moment.
    const int signal = stopping ? sigtimedwait(&signals_, nullptr, &kLook)
                                : sigwaitinfo(&signals_, nullptr);
    MutexLock lock(&mu_);
    if (ended_) return;
    if (signal > 0) OnSignal(signal);
    stopping = stopping_;
    if (Clock::Real().Now() < end_) continue;
    if (answered_) {
      spdlog::warn(
          "all requests are answered; ending although something still runs");
      Exit(kExitStopped);
    }
    spdlog::error("requests still run {} s after the signal; ending now",
                  absl::ToDoubleSeconds(patience_));
    Exit(kExitCutShort);
  }
}

void StopSignal::OnSignal(int signal) {
  const absl::Time now = Clock::Real().Now();
  if (stopping_ && (signal == SIGHUP || now - stopped_at_ < kSameStop)) return;
  if (!ready_ || stopping_) Exit(128 + signal);
  stopping_ = true;
  stopped_at_ = now;
  end_ = now + patience_;
  changed_.SignalAll();
}

void StopSignal::Exit(int code) {
  before_exit_();
  _exit(code);
}

}  // namespace ounce::server
