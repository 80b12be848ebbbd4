#include "server/stop_signal.h"

#include <unistd.h>

#include <cstdio>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/log.h"

namespace ounce::server {
namespace {

using ::testing::ExitedWithCode;
using ::testing::HasSubstr;

constexpr absl::Duration kForEver = absl::Minutes(5);

// Ends the process, each in one of its own.
class StopSignalDeathTest : public ::testing::Test {
 protected:
  StopSignalDeathTest() {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    SetUpLog(LogFormat::kText);
  }

  static std::unique_ptr<StopSignal> Make(absl::Duration patience) {
    return *StopSignal::Create(patience,
                               [] { std::fputs("last words\n", stderr); });
  }
  static void Send(int signal) { kill(getpid(), signal); }
};

TEST_F(StopSignalDeathTest, BeforeItIsReadyASignalEndsTheProcess) {
  EXPECT_EXIT(
      {
        const auto stop = Make(kForEver);
        Send(SIGTERM);
        absl::SleepFor(kForEver);
      },
      ExitedWithCode(128 + SIGTERM), "last words");
}

TEST_F(StopSignalDeathTest, TheFirstSignalEndsTheWait) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    EXPECT_EXIT(
        {
          {
            const auto stop = Make(kForEver);
            stop->Ready();
            Send(signal);
            stop->Wait();
            stop->Answered();
          }
          _exit(50);
        },
        ExitedWithCode(50), "");
  }
}

TEST_F(StopSignalDeathTest, TheSecondSignalEndsTheProcess) {
  EXPECT_EXIT(
      {
        const auto stop = Make(kForEver);
        stop->Ready();
        Send(SIGTERM);
        stop->Wait();
        absl::SleepFor(absl::Milliseconds(150));
        Send(SIGINT);
        absl::SleepFor(kForEver);
      },
      ExitedWithCode(128 + SIGINT), "last words");
}

TEST_F(StopSignalDeathTest, ASignalThatIsSentTwiceIsOne) {
  EXPECT_EXIT(
      {
        const auto stop = Make(kForEver);
        stop->Ready();
        Send(SIGTERM);
        stop->Wait();
        Send(SIGTERM);  // as timeout(1) does: to the program and its group
        absl::SleepFor(absl::Milliseconds(300));
        _exit(50);
      },
      ExitedWithCode(50), "");
}

TEST_F(StopSignalDeathTest, ASecondHangUpDoesNot) {
  EXPECT_EXIT(
      {
        const auto stop = Make(kForEver);
        stop->Ready();
        Send(SIGHUP);
        stop->Wait();
        Send(SIGHUP);
        absl::SleepFor(absl::Milliseconds(200));
        _exit(50);
      },
      ExitedWithCode(50), "");
}

TEST_F(StopSignalDeathTest, WhereHangUpsAreIgnoredTheyStaySo) {
  EXPECT_EXIT(
      {
        signal(SIGHUP, SIG_IGN);
        const auto stop = Make(kForEver);
        Send(SIGHUP);
        absl::SleepFor(absl::Milliseconds(200));
        _exit(50);
      },
      ExitedWithCode(50), "");
}

TEST_F(StopSignalDeathTest, AStopThatTakesTooLongIsCutShort) {
  EXPECT_EXIT(
      {
        const auto stop = Make(absl::Milliseconds(100));
        stop->Ready();
        Send(SIGTERM);
        stop->Wait();
        absl::SleepFor(kForEver);
      },
      ExitedWithCode(kExitCutShort), "requests still run(.|\n)*last words");
}

TEST_F(StopSignalDeathTest, WhenAllIsAnsweredWhatHangsMakesItNoFailure) {
  EXPECT_EXIT(
      {
        const auto stop = Make(kForEver);
        stop->Ready();
        Send(SIGTERM);
        stop->Wait();
        stop->Answered();
        absl::SleepFor(kForEver);
      },
      ExitedWithCode(kExitStopped), "all requests are answered");
}

}  // namespace
}  // namespace ounce::server
