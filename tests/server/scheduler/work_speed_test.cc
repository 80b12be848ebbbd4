#include "server/scheduler/work_speed.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/refusal.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::testing::HasSubstr;

class WorkSpeedTest : public ::testing::Test {
 protected:
  void Note(int rounds, double pieces, double size, absl::Duration took) {
    for (int i = 0; i < rounds; ++i) {
      now_ += took;
      speed_.Note(pieces, size, took, now_);
    }
  }
  absl::Duration AtLeast(double pieces, double size) const {
    return speed_.AtLeast(pieces, size, now_);
  }

  absl::Time now_ = absl::FromUnixSeconds(1'000'000'000);
  WorkSpeed speed_;
};

TEST_F(WorkSpeedTest, SaysNothingBeforeItHasSeenEnough) {
  Note(3, 1, 100, absl::Seconds(1));
  EXPECT_EQ(AtLeast(1, 100), absl::ZeroDuration());
  Note(1, 1, 100, absl::Seconds(1));
  EXPECT_EQ(AtLeast(1, 100), absl::Seconds(1));
}

TEST_F(WorkSpeedTest, SmallerPiecesTakeTheirPartAndLargerOnesAsLongAtLeast) {
  Note(8, 2, 200, absl::Seconds(1));  // half a second for each of 100
  EXPECT_NEAR(absl::ToDoubleSeconds(AtLeast(1, 10)), 0.05, 1e-6);
  EXPECT_NEAR(absl::ToDoubleSeconds(AtLeast(1, 5000)), 0.5, 1e-6);
  EXPECT_NEAR(absl::ToDoubleSeconds(AtLeast(3, 300)), 1.5, 1e-6);
}

TEST_F(WorkSpeedTest, TimeInWhichNothingWasDoneCounts) {
  Note(8, 1, 1, absl::Seconds(1));
  const absl::Duration before = AtLeast(1, 1);
  Note(1, 0, 0, absl::Seconds(4));
  EXPECT_GT(AtLeast(1, 1), before + absl::Milliseconds(400));
}

TEST_F(WorkSpeedTest, WhatIsNewCountsMore) {
  Note(100, 1, 1, absl::Seconds(1));
  Note(64, 1, 1, absl::Seconds(3));
  EXPECT_NEAR(absl::ToDoubleSeconds(AtLeast(1, 1)), 2.5, 0.1);
}

TEST_F(WorkSpeedTest, ForgetsWhatIsLongAgo) {
  Note(8, 1, 1, absl::Seconds(1));
  now_ += WorkSpeed::kForgotten;
  EXPECT_EQ(AtLeast(1, 1), absl::Seconds(1));
  now_ += absl::Milliseconds(1);
  EXPECT_EQ(AtLeast(1, 1), absl::ZeroDuration());
  Note(1, 1, 1, absl::Seconds(1));
  EXPECT_EQ(AtLeast(1, 1), absl::ZeroDuration());
}

TEST(CheckInTimeTest, RefusesWhatIsTooLateEvenInHalfTheTime) {
  const absl::Duration left = absl::Seconds(2);
  EXPECT_OK(CheckInTime("the answer", absl::Seconds(4), left));
  const absl::Status late =
      CheckInTime("the answer", absl::Milliseconds(4321), left);
  EXPECT_EQ(ReasonOf(late), Reason::kDeadlineTooSoon);
  EXPECT_TRUE(absl::IsResourceExhausted(late));
  EXPECT_TRUE(RetryAfter(late).has_value());
  EXPECT_THAT(late.message(), HasSubstr("the answer would come in about 4.3s "
                                        "at the speed of late, and the "
                                        "deadline is in 2s"));
  // Of a deadline that has passed somebody else tells.
  EXPECT_OK(CheckInTime("the answer", absl::Seconds(1), -left));
}

}  // namespace
}  // namespace ounce::server
