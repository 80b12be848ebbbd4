#include "base/clock.h"

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/testing/wall_clock.h"

namespace ounce {
namespace {

TEST(ClockTest, StandsWhereTheSystemsClockStandsAtFirst) {
  const absl::Duration apart = Clock::Real().Now() - absl::Now();
  EXPECT_LT(absl::AbsDuration(apart), absl::Minutes(1));
}

TEST(ClockTest, StepsOfTheSystemsClockDoNotMoveIt) {
  const absl::Time before = Clock::Real().Now();
  testing::SetWallClockOffset(absl::Hours(1));
  const absl::Time later = absl::Now();
  ASSERT_GT(later - before, absl::Minutes(59)) << "the step took no effect";
  const absl::Duration forward = Clock::Real().Now() - before;
  testing::SetWallClockOffset(-absl::Hours(1));
  const absl::Duration back = Clock::Real().Now() - before;
  testing::SetWallClockOffset(absl::ZeroDuration());
  EXPECT_GE(forward, absl::ZeroDuration());
  EXPECT_LT(forward, absl::Minutes(10));
  EXPECT_GE(back, forward);
  EXPECT_LT(back, absl::Minutes(10));
}

}  // namespace
}  // namespace ounce
