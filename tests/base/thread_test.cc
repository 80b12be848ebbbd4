#include "base/thread.h"

#include <pthread.h>

#include <atomic>

#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/no_threads.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::NoThreads;
using testing::StatusIs;

TEST(ThreadTest, RunsItsWorkUnderItsName) {
  std::string name(16, '\0');
  ASSERT_OK_AND_ASSIGN(std::thread thread, StartThread("ounce-name", [&] {
                         pthread_getname_np(pthread_self(), name.data(),
                                            name.size());
                       }));
  thread.join();
  EXPECT_STREQ(name.c_str(), "ounce-name");
}

TEST(ThreadTest, NamesTheThreadAndTheLimitsWhenThereIsNone) {
  const NoThreads none;
  std::atomic<bool> ran = false;
  EXPECT_THAT(
      StartThread("ounce-name", [&] { ran = true; }),
      StatusIs(absl::StatusCode::kResourceExhausted,
               AllOf(HasSubstr("no thread for 'ounce-name'"),
                     HasSubstr("limit"), HasSubstr("kernel.threads-max"))));
  EXPECT_FALSE(ran);
}

TEST(ThreadTest, SaysHowManyThreadsCouldBeHad) {
  EXPECT_OK(CheckThreads(0));
  EXPECT_OK(CheckThreads(8));
  const NoThreads none;
  EXPECT_THAT(CheckThreads(8),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("8 threads are needed, only 0 could")));
}

TEST(ThreadTest, APoolWorksWithTheThreadsThatItGot) {
  const NoThreads none;
  ThreadPool pool(4);
  EXPECT_THAT(pool.status(), StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr("'ounce-worker'")));
  int64_t sum = 0;
  pool.ParallelFor(100, [&](int64_t task, int) { sum += task; });
  EXPECT_EQ(sum, 4950);
}

}  // namespace
}  // namespace ounce
