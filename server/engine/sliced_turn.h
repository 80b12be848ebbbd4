// A turn of the machine, in slices: others who want one have it in between, if
// whoever has the turn makes it its thread's ScopedInterlude.
//
// Threads: the one that has it.
#ifndef OUNCE_SERVER_ENGINE_SLICED_TURN_H_
#define OUNCE_SERVER_ENGINE_SLICED_TURN_H_

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/interlude.h"
#include "base/mutex.h"
#include "base/thread_pool.h"
#include "server/engine/step_turns.h"

namespace ounce::server {

class SlicedTurn final : public Interlude {
 public:
  // What the slices of all long turns that go on at once take together between
  // two turns of a stream: each of them sees the stream and the others wait,
  // and takes only its part. The tasks under way when a slice ends are on top,
  // and no bound is set on how long they take.
  static constexpr absl::Duration kSlices = absl::Milliseconds(20);

  SlicedTurn(ThreadPool& pool, StepTurns& turns, const Clock& clock)
      : pool_(pool), turns_(turns), clock_(clock) {
    const absl::Time asked = clock_.Now();
    Begin();
    waited_ = begun_ - asked;
  }
  ~SlicedTurn() override { End(); }
  SlicedTurn(const SlicedTurn&) = delete;
  SlicedTurn& operator=(const SlicedTurn&) = delete;

  // For the first slice.
  absl::Duration waited() const { return waited_; }
  // In all slices so far.
  absl::Duration taken() const { return taken_ + (clock_.Now() - begun_); }

  bool Wanted() override {
    const int others = turns_.OthersWaiting();
    return others > 0 && clock_.Now() - begun_ >= kSlices / others;
  }
  void Run() override {
    taken_ = taken();
    End();
    Begin();
  }

 private:
  void Begin() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    turns_.Begin();
    pool_.lease().Lock();
    begun_ = clock_.Now();
  }
  void End() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    pool_.lease().Unlock();
    turns_.End();
  }

  ThreadPool& pool_;
  StepTurns& turns_;
  const Clock& clock_;
  absl::Time begun_;
  absl::Duration waited_;
  absl::Duration taken_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_SLICED_TURN_H_
