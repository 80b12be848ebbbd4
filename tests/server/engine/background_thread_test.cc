#include "server/engine/background_thread.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/no_threads.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::ounce::testing::IsOk;
using ::ounce::testing::NoThreads;
using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

absl::Status Always() { return absl::OkStatus(); }

int NiceOfThisThread() {
  return getpriority(PRIO_PROCESS, static_cast<id_t>(gettid()));
}

TEST(BackgroundThreadTest, WorksWithLowPriorityAndLeavesTheCallersAlone) {
  const int before = NiceOfThisThread();
  const auto caller = std::this_thread::get_id();
  int inside = 0;
  std::thread::id worker;
  EXPECT_THAT(RunInBackground(
                  [&](Waiter&) {
                    inside = NiceOfThisThread();
                    worker = std::this_thread::get_id();
                    return absl::AbortedError("as the work says");
                  },
                  Always),
              StatusIs(absl::StatusCode::kAborted, "as the work says"));
  EXPECT_EQ(inside, std::min(before + 10, 19));
  EXPECT_NE(worker, caller);
  EXPECT_EQ(NiceOfThisThread(), before);
}

TEST(BackgroundThreadTest, MemoryThatIsNotToBeHadIsAnError) {
  const auto none = []() -> absl::Status { throw std::bad_alloc(); };
  const auto out_of_memory =
      StatusIs(absl::StatusCode::kResourceExhausted, "out of memory");
  EXPECT_THAT(RunInBackground([&](Waiter&) { return none(); }, Always),
              out_of_memory);
  EXPECT_THAT(
      RunInBackground([&](Waiter& waiter) { return waiter.Ask(none); }, Always),
      out_of_memory);
  EXPECT_THAT(RunInBackground(
                  [](Waiter& waiter) {
                    while (waiter.CheckProceed().ok())
                      std::this_thread::yield();
                    return absl::OkStatus();
                  },
                  none),
              out_of_memory);
}

TEST(BackgroundThreadTest, AsksOnTheThreadThatWaits) {
  const auto caller = std::this_thread::get_id();
  std::vector<std::thread::id> asked;
  EXPECT_OK(RunInBackground(
      [&](Waiter& waiter) -> absl::Status {
        for (int i = 0; i < 100; ++i) {
          const absl::Status answer = waiter.Ask([&] {
            asked.push_back(std::this_thread::get_id());
            return i == 41 ? absl::DataLossError("no") : absl::OkStatus();
          });
          EXPECT_EQ(answer.ok(), i != 41);
        }
        return absl::OkStatus();
      },
      Always));
  EXPECT_EQ(asked, std::vector<std::thread::id>(100, caller));
}

TEST(BackgroundThreadTest, WorkHearsThatItIsNoLongerWanted) {
  int looks = 0;
  bool asked_in_vain = false;
  EXPECT_THAT(RunInBackground(
                  [&](Waiter& waiter) {
                    while (waiter.CheckProceed().ok())
                      std::this_thread::yield();
                    const absl::Status answer = waiter.Ask([&] {
                      asked_in_vain = true;
                      return absl::OkStatus();
                    });
                    return answer;
                  },
                  [&] {
                    return ++looks < 3 ? absl::OkStatus()
                                       : absl::CancelledError("gone");
                  },
                  {.interval = absl::Milliseconds(1),
                   .patience = absl::InfiniteDuration()}),
              StatusIs(absl::StatusCode::kCancelled, "gone"));
  EXPECT_FALSE(asked_in_vain);
}

// As reading from a file system that does not answer.
TEST(BackgroundThreadTest, LeavesWorkBehindThatDoesNotComeBack) {
  struct State {
    absl::Notification file_system_answers;
    absl::Notification over;
  };
  const auto state = std::make_shared<State>();
  EXPECT_THAT(RunInBackground(
                  [state](Waiter& waiter) {
                    state->file_system_answers.WaitForNotification();
                    // Nobody is there any more to be asked.
                    const absl::Status answer =
                        waiter.Ask([]() -> absl::Status {
                          ADD_FAILURE() << "asked a caller that is gone";
                          return absl::OkStatus();
                        });
                    EXPECT_FALSE(answer.ok());
                    state->over.Notify();
                    return answer;
                  },
                  [] { return absl::UnavailableError("shutting down"); },
                  {.interval = absl::Milliseconds(1),
                   .patience = absl::Milliseconds(20)}),
              StatusIs(absl::StatusCode::kUnavailable, "shutting down"));
  EXPECT_FALSE(state->over.HasBeenNotified());
  state->file_system_answers.Notify();
  state->over.WaitForNotification();
}

TEST(BackgroundThreadTest, AThreadThatCannotBeHadIsAStatus) {
  const NoThreads none;
  bool worked = false;
  EXPECT_THAT(RunInBackground(
                  [&](Waiter&) {
                    worked = true;
                    return absl::OkStatus();
                  },
                  Always),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("no thread for 'ounce-loader'")));
  EXPECT_FALSE(worked);
}

}  // namespace
}  // namespace ounce::server
