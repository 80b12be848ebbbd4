// Engines that share the machine take turns, step by step, in the order in
// which they asked.
//
// A mutex alone would not do: whoever gives it up and wants it again at once
// nearly always gets it, and a busy model would starve the others.
//
// Work that nobody waits for takes turns behind them (Behind): after each turn
// of its own it lets the engines have some, as long as they want any.
//
// Threads: any.
#ifndef OUNCE_SERVER_ENGINE_STEP_TURNS_H_
#define OUNCE_SERVER_ENGINE_STEP_TURNS_H_

#include <cstdint>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace ounce::server {

class StepTurns {
 public:
  void Begin() {
    MutexLock lock(&mu_);
    ++asked_;
    AwaitTurn();
  }
  void End() {
    {
      MutexLock lock(&mu_);
      ++had_;
      ended_at_ = Clock::Real().Now();
    }
    EndTurn();
  }

  // How many others want a turn, asked by whoever has one. Each of them has one
  // before the asker's next.
  int OthersWaiting() {
    MutexLock lock(&mu_);
    return static_cast<int>(next_ticket_ - serving_ - 1);
  }

  // One who stands behind the engines. Threads: one at a time.
  class Behind {
   public:
    // Turns of engines after each of its own; and how long after the last one
    // they are taken to be busy still, with what they do between two turns.
    static constexpr uint64_t kTurnsOfEngines = 8;
    static constexpr absl::Duration kPatience = absl::Milliseconds(20);

    // Ownership: `turns` must outlive it.
    explicit Behind(StepTurns& turns) : turns_(turns) {}

    // Returns whether engines are busy: then this turn should be short.
    bool Begin() { return turns_.BeginBehind(); }
    void End() { turns_.EndTurn(); }

    // Before a turn that is taken as an engine takes its own.
    void LetPass() { turns_.LetEnginesPass(); }

   private:
    StepTurns& turns_;
  };

 private:
  void AwaitTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const uint64_t ticket = next_ticket_++;
    while (serving_ != ticket) changed_.Wait(&mu_);
  }
  void EndTurn() {
    {
      MutexLock lock(&mu_);
      ++serving_;
    }
    changed_.SignalAll();
  }
  bool BeginBehind() {
    MutexLock lock(&mu_);
    const bool busy = AwaitEngines();
    AwaitTurn();
    return busy;
  }
  void LetEnginesPass() {
    MutexLock lock(&mu_);
    AwaitEngines();
  }
  // Until they have had their turns, or want none; returns whether they are
  // busy still.
  bool AwaitEngines() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const uint64_t enough = had_ + Behind::kTurnsOfEngines;
    absl::Duration left = BusyFor();
    while (left > absl::ZeroDuration() && had_ < enough) {
      changed_.WaitFor(&mu_, left);
      left = BusyFor();
    }
    return left > absl::ZeroDuration();
  }
  // How long engines are taken to be busy from now on, if none asks.
  absl::Duration BusyFor() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (asked_ != had_) return absl::InfiniteDuration();
    return ended_at_ + Behind::kPatience - Clock::Real().Now();
  }

  Mutex mu_;
  CondVar changed_;
  uint64_t next_ticket_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t serving_ ABSL_GUARDED_BY(mu_) = 0;
  // Turns of engines: asked for, and ended.
  uint64_t asked_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t had_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Time ended_at_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_STEP_TURNS_H_
