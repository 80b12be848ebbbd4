#include "server/frontend/worker_pool.h"

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "base/mutex.h"
#include "gmock/gmock.h"

namespace ounce::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class WorkerPoolTest : public ::testing::Test {
 protected:
  static WorkerPool::Options Options() {
    return {.num_threads = 1,
            .max_waiting = 4,
            .max_waiting_per_flow = 3,
            .full = absl::ResourceExhaustedError("full")};
  }

  // A job that notes its name when it is done, or when it is refused.
  WorkerPool::Job Job(const std::string& name) {
    return [this, name](const absl::Status& room) {
      MutexLock lock(&mu_);
      (room.ok() ? done_ : refused_).push_back(name);
      if (!room.ok()) {
        EXPECT_EQ(room.message(), "full");
      }
    };
  }
  // Keeps the only thread busy until Free(), so that what follows waits.
  void Hold(WorkerPool& pool) {
    absl::Notification begun;
    pool.Run("holder", [&, this](const absl::Status&) {
      begun.Notify();
      free_.WaitForNotification();
    });
    begun.WaitForNotification();
  }
  void Free() { free_.Notify(); }

  std::vector<std::string> done() {
    MutexLock lock(&mu_);
    return done_;
  }
  std::vector<std::string> refused() {
    MutexLock lock(&mu_);
    return refused_;
  }

 private:
  absl::Notification free_;
  Mutex mu_;
  std::vector<std::string> done_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> refused_ ABSL_GUARDED_BY(mu_);
};

TEST_F(WorkerPoolTest, DoesOneJobOfEachFlowInTurn) {
  {
    WorkerPool pool(Options());
    Hold(pool);
    for (const char* name : {"a1", "a2", "a3"}) pool.Run("a", Job(name));
    pool.Run("b", Job("b1"));
    Free();
  }
  EXPECT_THAT(done(), ElementsAre("a1", "b1", "a2", "a3"));
  EXPECT_THAT(refused(), IsEmpty());
}

TEST_F(WorkerPoolTest, RefusesAFlowThatHasItsShareWaiting) {
  {
    WorkerPool pool(Options());
    Hold(pool);
    for (const char* name : {"a1", "a2", "a3", "a4"}) pool.Run("a", Job(name));
    EXPECT_THAT(refused(), ElementsAre("a4"));
    Free();
  }
  EXPECT_THAT(done(), ElementsAre("a1", "a2", "a3"));
}

TEST_F(WorkerPoolTest, GivesANewcomerThePlaceOfTheLargestFlowsYoungest) {
  {
    WorkerPool pool(Options());
    Hold(pool);
    for (const char* name : {"a1", "a2", "a3"}) pool.Run("a", Job(name));
    pool.Run("b", Job("b1"));
    pool.Run("c", Job("c1"));
    EXPECT_THAT(refused(), ElementsAre("a3"));
    Free();
  }
  EXPECT_THAT(done(), ElementsAre("a1", "b1", "c1", "a2"));
}

TEST_F(WorkerPoolTest, RefusesWhoWouldBeNoSmallerThanTheLargestFlow) {
  {
    WorkerPool pool(Options());
    Hold(pool);
    for (const char* name : {"a1", "a2"}) pool.Run("a", Job(name));
    for (const char* name : {"b1", "b2"}) pool.Run("b", Job(name));
    pool.Run("a", Job("a3"));
    EXPECT_THAT(refused(), ElementsAre("a3"));
    pool.Run("c", Job("c1"));
    EXPECT_EQ(refused().size(), 2u) << "one of the two gives way";
    pool.Run("d", Job("d1"));
    EXPECT_EQ(refused().size(), 3u);
    pool.Run("e", Job("e1"));
    EXPECT_EQ(refused().back(), "e1") << "each has one place";
    Free();
  }
}

TEST_F(WorkerPoolTest, DoesEveryAcceptedJobBeforeItEnds) {
  std::atomic<int> done = 0;
  {
    WorkerPool pool({.num_threads = 3, .max_waiting = 50});
    for (int i = 0; i < 50; ++i) {
      pool.Run(absl::StrCat(i % 7),
               [&](const absl::Status& room) { done += room.ok(); });
    }
  }
  EXPECT_EQ(done, 50);
}

}  // namespace
}  // namespace ounce::server
