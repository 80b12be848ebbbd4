// Others who want turns of the machine all the time.
#ifndef OUNCE_TESTS_SERVER_ENGINE_TURN_TAKERS_H_
#define OUNCE_TESTS_SERVER_ENGINE_TURN_TAKERS_H_

#include <atomic>
#include <thread>
#include <vector>

#include "server/engine/step_turns.h"

namespace ounce::testing {

// Ownership: `turns` must outlive it.
class TurnTakers {
 public:
  TurnTakers(int count, server::StepTurns& turns) : count_(count) {
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back([this, &turns] {
        while (!stop_) {
          turns.Begin();
          ++had_;
          turns.End();
        }
      });
    }
  }
  ~TurnTakers() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  TurnTakers(const TurnTakers&) = delete;
  TurnTakers& operator=(const TurnTakers&) = delete;

  // Turns that they have had together.
  int had() const { return had_; }
  // Returns when all wait for one. By whoever has a turn.
  void AwaitAllWait(server::StepTurns& turns) const {
    while (turns.OthersWaiting() < count_) std::this_thread::yield();
  }

 private:
  const int count_;
  std::atomic<int> had_ = 0;
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_SERVER_ENGINE_TURN_TAKERS_H_
