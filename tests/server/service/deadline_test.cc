#include "server/service/deadline.h"

#include <cstdint>

#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/wall_clock.h"

namespace ounce::server {
namespace {

using ::ounce::testing::FakeClock;
using ::ounce::testing::SetWallClockOffset;

// As gRPC makes it of what the client allows.
gpr_timespec In(int64_t seconds) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_seconds(seconds, GPR_TIMESPAN));
}

TEST(DeadlineTest, IsAsFarAwayAsTheClientAllows) {
  FakeClock clock;
  const absl::Duration left = FromGrpcDeadline(In(60), clock) - clock.Now();
  EXPECT_LE(left, absl::Seconds(60));
  EXPECT_GT(left, absl::Seconds(30));
  EXPECT_LT(FromGrpcDeadline(In(-1), clock), clock.Now());
}

TEST(DeadlineTest, StepsOfTheWallClockDoNotMoveIt) {
  FakeClock clock;
  const gpr_timespec deadline = In(60);
  for (const absl::Duration step : {absl::Hours(1), -absl::Hours(1)}) {
    SetWallClockOffset(step);
    const absl::Duration left = FromGrpcDeadline(deadline, clock) - clock.Now();
    SetWallClockOffset(absl::ZeroDuration());
    EXPECT_LE(left, absl::Seconds(60));
    EXPECT_GT(left, absl::Seconds(30));
  }
}

TEST(DeadlineTest, OneThatIsFarIsNotNow) {
  FakeClock clock;
  EXPECT_EQ(FromGrpcDeadline(gpr_inf_future(GPR_CLOCK_MONOTONIC), clock),
            absl::InfiniteFuture());
  // 292 years: past what nanoseconds since 1970 can say.
  const int64_t far = int64_t{2562047} * 3600;
  EXPECT_GT(FromGrpcDeadline(In(far), clock) - clock.Now(),
            absl::Hours(2'000'000));
  EXPECT_GT(FromGrpcDeadline(In(INT64_MAX / 2), clock) - clock.Now(),
            absl::Hours(2'000'000));
}

TEST(DeadlineTest, WhatGrpcIsGivenIsOnItsMonotonicClock) {
  FakeClock clock;
  SetWallClockOffset(-absl::Hours(1));
  const gpr_timespec deadline = ToGrpcDeadline(absl::Seconds(60));
  SetWallClockOffset(absl::ZeroDuration());
  const absl::Duration left = FromGrpcDeadline(deadline, clock) - clock.Now();
  EXPECT_LE(left, absl::Seconds(60));
  EXPECT_GT(left, absl::Seconds(30));
  EXPECT_GT(FromGrpcDeadline(ToGrpcDeadline(absl::InfiniteDuration()), clock) -
                clock.Now(),
            absl::Hours(2'000'000));
}

}  // namespace
}  // namespace ounce::server
