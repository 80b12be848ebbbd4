#include "base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include "base/interlude.h"
#include "gtest/gtest.h"

namespace ounce {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, RunsEveryTaskOnceOnAWorkerOfTheTeam) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(GetParam(), pool.num_threads());
  for (const int64_t num_tasks : {0, 1, 2, 3, 7, 64, 10'000}) {
    std::vector<std::atomic<int>> runs(num_tasks);
    pool.ParallelFor(num_tasks, [&](int64_t task, int worker) {
      ASSERT_GE(worker, 0);
      ASSERT_LT(worker, pool.num_threads());
      runs[task].fetch_add(1);
    });
    for (const auto& count : runs) ASSERT_EQ(1, count.load());
  }
}

TEST_P(ThreadPoolTest, WhatTasksWroteIsSeenByTheCallerRoundAfterRound) {
  ThreadPool pool(GetParam());
  // Plain memory: ThreadSanitizer would tell if nothing ordered the rounds.
  std::vector<int64_t> values(17);
  for (int round = 0; round < 3'000; ++round) {
    pool.ParallelFor(17, [&](int64_t task, int) { values[task] += task; });
    ASSERT_EQ((round + 1) * 16, values[16]);
  }
  for (int64_t i = 0; i < 17; ++i) EXPECT_EQ(3'000 * i, values[i]);
}

TEST_P(ThreadPoolTest, AWorkerRunsOneTaskAtATime) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> counts(pool.num_threads() * 8);  // plain, per worker
  for (int round = 0; round < 50; ++round) {
    pool.ParallelFor(100, [&](int64_t, int worker) { ++counts[worker * 8]; });
  }
  int64_t total = 0;
  for (const int64_t count : counts) total += count;
  EXPECT_EQ(5'000, total);
}

TEST_P(ThreadPoolTest, WakesWorkersThatHaveParked) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 10; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::atomic<int64_t> sum{0};
    pool.ParallelFor(100, [&](int64_t task, int) { sum += task; });
    EXPECT_EQ(4'950, sum.load());
  }
}

// Lets another owner run rounds of its own after each task.
class OtherOwner final : public Interlude {
 public:
  explicit OtherOwner(ThreadPool& pool) : pool_(pool) {}
  bool Wanted() override { return true; }
  void Run() override {
    std::thread other(
        [&] { pool_.ParallelFor(5, [&](int64_t, int) { ++tasks_; }); });
    other.join();
    ++rounds_;
  }
  int rounds() const { return rounds_; }
  int tasks() const { return tasks_; }

 private:
  ThreadPool& pool_;
  int rounds_ = 0;
  std::atomic<int> tasks_ = 0;
};

TEST_P(ThreadPoolTest, LetsOthersInBetweenTwoTasksAndRunsEachOnce) {
  ThreadPool pool(GetParam());
  OtherOwner other(pool);
  int rounds_of_others = 0;
  {
    const ScopedInterlude interlude(other);
    for (const int64_t num_tasks : {0, 1, 2, 3, 17, 100}) {
      std::vector<std::atomic<int>> runs(num_tasks);
      pool.ParallelFor(num_tasks,
                       [&](int64_t task, int) { runs[task].fetch_add(1); });
      for (const auto& count : runs) ASSERT_EQ(1, count.load());
      // One at least before all; and with one thread before each.
      EXPECT_GE(other.rounds() - rounds_of_others, num_tasks > 0 ? 1 : 0);
      if (GetParam() == 1) {
        EXPECT_EQ(num_tasks, other.rounds() - rounds_of_others);
      }
      rounds_of_others = other.rounds();
    }
  }
  EXPECT_EQ(5 * other.rounds(), other.tasks());
  pool.ParallelFor(100, [](int64_t, int) {});
  EXPECT_EQ(rounds_of_others, other.rounds());
}

TEST(ThreadPoolTest, BeginsNoTaskWhileOthersAreWanted) {
  ThreadPool pool(4);
  class Pause final : public Interlude {
   public:
    explicit Pause(const std::atomic<int>& running) : running_(running) {}
    bool Wanted() override { return true; }
    void Run() override {
      EXPECT_EQ(0, running_.load());
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      EXPECT_EQ(0, running_.load());
    }

   private:
    const std::atomic<int>& running_;
  };
  std::atomic<int> running = 0;
  Pause pause(running);
  const ScopedInterlude interlude(pause);
  for (int round = 0; round < 20; ++round) {
    pool.ParallelFor(64, [&](int64_t, int) {
      ++running;
      std::this_thread::yield();
      --running;
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Teams, ThreadPoolTest, testing::Values(1, 2, 3, 8));

TEST(ThreadPoolTest, TasksRunSideBySide) {
  ThreadPool pool(2);
  // Each of two tasks waits for the other to begin.
  std::atomic<int> begun{0};
  pool.ParallelFor(2, [&](int64_t, int) {
    begun.fetch_add(1);
    while (begun.load() < 2) std::this_thread::yield();
  });
  EXPECT_EQ(2, begun.load());
}

TEST(ThreadPoolTest, OwnersTakeTurnsByTheLease) {
  ThreadPool pool(3);
  std::vector<std::thread> owners;
  std::atomic<int64_t> tasks{0};
  for (int owner = 0; owner < 4; ++owner) {
    owners.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        MutexLock lock(&pool.lease());
        pool.ParallelFor(5, [&](int64_t, int) { tasks.fetch_add(1); });
      }
    });
  }
  for (std::thread& owner : owners) owner.join();
  EXPECT_EQ(10'000, tasks.load());
}

TEST(ThreadPoolTest, AnIdleOneHasASizeAndRunsNothing) {
  ThreadPool pool(ThreadPool::Idle{5});
  EXPECT_EQ(5, pool.num_threads());
  pool.ParallelFor(100, [](int64_t, int) { FAIL() << "a task ran"; });
  pool.ParallelFor(1, [](int64_t, int) { FAIL() << "a task ran"; });
}

TEST(ThreadPoolTest, ComesAndGoesWithoutWork) {
  for (int i = 0; i < 100; ++i) ThreadPool pool(4);
}

}  // namespace
}  // namespace ounce
