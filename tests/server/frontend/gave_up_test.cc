#include "server/frontend/gave_up.h"

#include "gtest/gtest.h"

namespace ounce::server {
namespace {

// How a call ends that came at 0 with `deadline`, and whose client goes `early`
// before that.
absl::StatusCode Ends(absl::Duration deadline, absl::Duration early) {
  const absl::Time arrival = absl::UnixEpoch() + absl::Hours(1);
  return WhyGivenUp(arrival, arrival + deadline, arrival + deadline - early)
      .code();
}

constexpr auto kLate = absl::StatusCode::kDeadlineExceeded;
constexpr auto kCancelled = absl::StatusCode::kCancelled;

TEST(GaveUpTest, AClientMayHearOfItsDeadlineBeforeTheServer) {
  EXPECT_EQ(Ends(absl::Seconds(1), absl::ZeroDuration()), kLate);
  EXPECT_EQ(Ends(absl::Seconds(1), -absl::Seconds(1)), kLate);
  EXPECT_EQ(Ends(absl::Seconds(1), absl::Milliseconds(50)), kLate);
  EXPECT_EQ(Ends(absl::Seconds(1), absl::Milliseconds(51)), kCancelled);
}

TEST(GaveUpTest, DeadlinesThatGrpcRoundsUpAreTheClients) {
  // gRPC says 12.4 s for 12.34 s, and 904 s for 903.1 s.
  EXPECT_EQ(Ends(absl::Seconds(12.4), absl::Milliseconds(60)), kLate);
  EXPECT_EQ(Ends(absl::Seconds(12.4), absl::Milliseconds(125)), kCancelled);
  EXPECT_EQ(Ends(absl::Seconds(904), absl::Milliseconds(900)), kLate);
  EXPECT_EQ(Ends(absl::Hours(10), absl::Milliseconds(1001)), kCancelled);
}

TEST(GaveUpTest, WithoutADeadlineItIsCancelled) {
  EXPECT_EQ(WhyGivenUp(absl::UnixEpoch(), absl::InfiniteFuture(),
                       absl::UnixEpoch() + absl::Hours(1000))
                .code(),
            kCancelled);
}

}  // namespace
}  // namespace ounce::server
