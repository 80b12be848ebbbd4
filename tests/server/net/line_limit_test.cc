#include "server/net/line_limit.h"

#include <optional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

using ::testing::Eq;
using ::testing::Optional;

TEST(LineLimitTest, CountsWhatIsLeftOutBetweenTwoLines) {
  const absl::Time start = absl::UnixEpoch();
  LineLimit lines({.burst = 2, .per_second = 0.5}, start);
  EXPECT_THAT(lines.Take(start), Optional(0));
  EXPECT_THAT(lines.Take(start), Optional(0));
  EXPECT_THAT(lines.Take(start), Eq(std::nullopt));
  EXPECT_THAT(lines.Take(start + absl::Seconds(1)), Eq(std::nullopt));
  EXPECT_THAT(lines.Take(start + absl::Seconds(2)), Optional(2));
  EXPECT_THAT(lines.Take(start + absl::Seconds(4)), Optional(0));
}

}  // namespace
}  // namespace ounce::server
