#include "server/engine/step_turns.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
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

TEST(StepTurnsTest, LetsBusyEnginesHaveSomeTurnsBeforeOneBehind) {
  StepTurns turns;
  std::atomic<bool> stop = false;
  std::atomic<int64_t> engine_turns = 0;
  std::thread engine([&] {
    while (!stop) {
      turns.Begin();
      ++engine_turns;
      turns.End();
    }
  });
  StepTurns::Behind behind(turns);
  // The machine may keep the engine from asking for so long that it seems idle.
  for (int busy_turns = 0; busy_turns < 50;) {
    constexpr int64_t kTurns = StepTurns::Behind::kTurnsOfEngines;
    const int64_t before = engine_turns;
    if (behind.Begin()) {
      ++busy_turns;
      EXPECT_GE(engine_turns, before + kTurns - 1);  // one may be under way
    }
    behind.End();
  }
  stop = true;
  engine.join();
}

TEST(StepTurnsTest, LetsBusyEnginesPassBeforeAnEnginesTurn) {
  StepTurns turns;
  std::atomic<bool> stop = false;
  std::atomic<int64_t> engine_turns = 0;
  std::thread engine([&] {
    while (!stop) {
      turns.Begin();
      ++engine_turns;
      turns.End();
      // Busy, and seldom so late that it seems idle.
      absl::SleepFor(absl::Microseconds(100));
    }
  });
  while (engine_turns == 0) std::this_thread::yield();
  StepTurns::Behind behind(turns);
  int64_t most = 0;
  for (int i = 0; i < 50; ++i) {
    const int64_t before = engine_turns;
    behind.LetPass();
    most = std::max(most, engine_turns - before);
    turns.Begin();  // deadlocks if LetPass took a turn
    turns.End();
  }
  EXPECT_GE(most, int64_t{StepTurns::Behind::kTurnsOfEngines} - 1);
  stop = true;
  engine.join();
}

TEST(StepTurnsTest, DoesNotWaitForEnginesThatAskForNothing) {
  StepTurns turns;
  StepTurns::Behind behind(turns);
  const absl::Time start = absl::Now();
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(behind.Begin());
    behind.End();
  }
  EXPECT_LT(absl::Now() - start, 100 * StepTurns::Behind::kPatience);
}

TEST(StepTurnsTest, GoesOnWhenEnginesStopToAsk) {
  StepTurns turns;
  StepTurns::Behind behind(turns);
  turns.Begin();
  turns.End();
  const absl::Time start = absl::Now();
  EXPECT_FALSE(behind.Begin());
  behind.End();
  EXPECT_GE(absl::Now() - start, StepTurns::Behind::kPatience / 2);
}

}  // namespace
}  // namespace ounce::server
