#include "server/service/worker_pool.h"

#include <atomic>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

TEST(WorkerPoolTest, RefusesWhatExceedsItsRoom) {
  absl::Notification go;
  std::atomic<int> ran = 0;
  WorkerPool pool(/*num_threads=*/1, /*max_jobs=*/2);
  const auto job = [&] {
    go.WaitForNotification();
    ++ran;
  };
  EXPECT_TRUE(pool.TryRun(job));
  EXPECT_TRUE(pool.TryRun(job));
  EXPECT_FALSE(pool.TryRun(job));
  go.Notify();
  while (ran < 2) std::this_thread::yield();
  // The places are free again, soon.
  while (!pool.TryRun([&] { ++ran; })) std::this_thread::yield();
  while (ran < 3) std::this_thread::yield();
}

TEST(WorkerPoolTest, RunsWhatItAcceptedBeforeItEnds) {
  std::atomic<int> ran = 0;
  {
    WorkerPool pool(2, 100);
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(pool.TryRun([&] { ++ran; }));
  }
  EXPECT_EQ(ran, 50);
}

}  // namespace
}  // namespace ounce::server
