#include "server/service/job_threads.h"

#include <atomic>
#include <memory>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

TEST(JobThreadsTest, RunsEachJobOnAThreadOfItsOwn) {
  JobThreads threads(3, "loads");
  absl::Notification free;
  std::atomic<int> running = 0;
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(threads.Start([&] {
      ++running;
      free.WaitForNotification();
    }));
  }
  while (running < 3) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_THAT(threads.Start([] {}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("limit of 3 loads")));
  free.Notify();
  // A place is free once a job is over.
  absl::Status status;
  do {
    status = threads.Start([] {});
  } while (!status.ok());
}

TEST(JobThreadsTest, WhoeverHearsThatAJobIsOverFindsItsPlaceFree) {
  JobThreads threads(1, "loads");
  absl::Notification second;
  bool held = true;  // by what the first job holds
  ASSERT_OK(threads.Start(
      [holds = std::shared_ptr<void>(nullptr, [&](void*) { held = false; })] {},
      [&] {
        EXPECT_FALSE(held);
        const absl::Status next =
            threads.Start([] {}, [&] { second.Notify(); });
        EXPECT_OK(next);
        if (!next.ok()) second.Notify();
      }));
  second.WaitForNotification();
}

TEST(JobThreadsTest, WaitsForItsJobsAtTheEnd) {
  std::atomic<bool> done = false;
  {
    JobThreads threads(1, "loads");
    ASSERT_OK(threads.Start([] {},
                            [&] {
                              absl::SleepFor(absl::Milliseconds(20));
                              done = true;
                            }));
  }
  EXPECT_TRUE(done);
}

}  // namespace
}  // namespace ounce::server
