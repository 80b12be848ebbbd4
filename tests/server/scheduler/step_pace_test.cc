#include "server/scheduler/step_pace.h"

#include <cstdint>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

constexpr absl::Duration kWanted = absl::Milliseconds(50);
constexpr int64_t kFirst = 16;
constexpr int64_t kMost = 128;

// A machine on which a step costs something whatever its size, and the rest by
// its size.
struct Machine {
  absl::Duration step;
  absl::Duration token;

  absl::Duration Takes(int64_t tokens) const { return step + tokens * token; }
};

// The size of mixed steps, after so many of them.
int64_t After(int steps, const Machine& machine, StepPace& pace) {
  for (int i = 0; i < steps; ++i) {
    const int64_t tokens = pace.Tokens(kFirst, kMost);
    pace.NoteMixed(tokens, machine.Takes(tokens));
  }
  return pace.Tokens(kFirst, kMost);
}

TEST(StepPaceTest, BeginsSmall) {
  EXPECT_EQ(StepPace(kWanted).Tokens(kFirst, kMost), kFirst);
  EXPECT_EQ(StepPace(kWanted).Tokens(kFirst, 8), 8);
}

TEST(StepPaceTest, FindsTheSizeThatTakesAsLongAsWanted) {
  StepPace pace(kWanted);
  const Machine machine{absl::Milliseconds(10), absl::Milliseconds(1)};
  EXPECT_NEAR(After(20, machine, pace), 40, 1);
}

TEST(StepPaceTest, IsAtMostWhatAStepMayHave) {
  StepPace pace(kWanted);
  EXPECT_EQ(After(20, {absl::Milliseconds(1), absl::Microseconds(10)}, pace),
            kMost);
  // A clock that saw no time pass is no reason for an endless step.
  StepPace no_time(kWanted);
  EXPECT_EQ(After(1, {}, no_time), kMost);
}

TEST(StepPaceTest, IsWhatAStepMayHaveAtOnceWhereAnyTimeIsRight) {
  StepPace pace(absl::InfiniteDuration());
  EXPECT_EQ(pace.Tokens(kFirst, kMost), kMost);
  EXPECT_EQ(After(5, {absl::Seconds(1), absl::Seconds(1)}, pace), kMost);
}

TEST(StepPaceTest, FollowsTheMachine) {
  StepPace pace(kWanted);
  After(20, {absl::Milliseconds(2), absl::Microseconds(400)}, pace);
  EXPECT_NEAR(
      After(40, {absl::Milliseconds(2), absl::Microseconds(1600)}, pace), 30,
      1);
  EXPECT_NEAR(After(40, {absl::Milliseconds(2), absl::Microseconds(400)}, pace),
              120, 2);
}

TEST(StepPaceTest, StepsLastLongerTheLongerAPromptHasBeenComputed) {
  StepPace pace(kWanted);
  const Machine machine{absl::ZeroDuration(), absl::Milliseconds(2)};
  EXPECT_EQ(After(20, machine, pace), 25);
  EXPECT_EQ(pace.Tokens(kFirst, kMost, absl::Milliseconds(200)), 30);
  EXPECT_EQ(pace.Tokens(kFirst, kMost, absl::Seconds(1)), 50);
  EXPECT_EQ(pace.Tokens(kFirst, kMost, absl::Seconds(60)), kMost);
}

TEST(StepPaceTest, WantsAStepWithoutPromptsNowAndThen) {
  StepPace pace(kWanted);
  for (int i = 0; i < StepPace::kMostMixed; ++i) {
    EXPECT_FALSE(pace.IsDecodingDue()) << i;
    pace.NoteMixed(20, absl::Milliseconds(20));
  }
  EXPECT_TRUE(pace.IsDecodingDue());
  pace.NoteDecoding(absl::Milliseconds(10));
  EXPECT_FALSE(pace.IsDecodingDue());
  // Not where nobody asks for the time.
  StepPace any(absl::InfiniteDuration());
  After(2 * StepPace::kMostMixed, {}, any);
  EXPECT_FALSE(any.IsDecodingDue());
}

TEST(StepPaceTest, GivesPromptsHalfOfTheTimeWhereAStepAloneTakesLong) {
  StepPace pace(kWanted);
  pace.NoteDecoding(absl::Milliseconds(100));
  const Machine machine{absl::Milliseconds(98), absl::Milliseconds(2)};
  EXPECT_NEAR(After(40, machine, pace), 51, 1);  // 200 ms
}

}  // namespace
}  // namespace ounce::server
