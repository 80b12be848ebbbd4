#include "server/engine/step_turns.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace ounce::server {
namespace {

TEST(StepTurnsTest, LetsOneInAtATime) {
  StepTurns turns;
  int inside = 0;  // not atomic: ThreadSanitizer would see two at once
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        turns.Begin();
        ++inside;
        turns.End();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(inside, 4000);
}

TEST(StepTurnsTest, DoesNotLetABusyThreadStarveAnother) {
  StepTurns turns;
  std::atomic<bool> stop = false;
  std::atomic<int> busy_turns = 0;
  std::thread busy([&] {
    while (!stop) {
      turns.Begin();
      ++busy_turns;
      turns.End();
    }
  });
  while (busy_turns == 0) std::this_thread::yield();
  // Between asking and getting there is at most the turn that runs now; the
  // other thread may fit some in before the question is heard.
  for (int i = 0; i < 100; ++i) {
    turns.Begin();
    turns.End();
  }
  stop = true;
  busy.join();
  SUCCEED();
}

}  // namespace
}  // namespace ounce::server
