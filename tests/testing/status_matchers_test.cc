#include "tests/testing/status_matchers.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"

namespace ounce::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<std::unique_ptr<int>> Seven() {
  return std::make_unique<int>(7);
}
absl::Status Lost() { return absl::NotFoundError("'code' is lost"); }

TEST(StatusMatchersTest, TellsOkFromNotOk) {
  EXPECT_OK(absl::OkStatus());
  EXPECT_OK(Seven());
  EXPECT_THAT(Lost(), Not(IsOk()));
}

TEST(StatusMatchersTest, MatchesCodeAndMessage) {
  EXPECT_THAT(Lost(), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Lost(), StatusIs(absl::StatusCode::kNotFound, "'code' is lost"));
  EXPECT_THAT(Lost(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("lost")));
  EXPECT_THAT(Lost(), Not(StatusIs(absl::StatusCode::kInternal)));
  EXPECT_THAT(Lost(),
              Not(StatusIs(absl::StatusCode::kNotFound, HasSubstr("found"))));
  EXPECT_THAT(absl::StatusOr<int>(Lost()),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(StatusMatchersTest, SaysWhatItFound) {
  EXPECT_NONFATAL_FAILURE(EXPECT_OK(Lost()), "NOT_FOUND: 'code' is lost");
  EXPECT_NONFATAL_FAILURE(
      EXPECT_THAT(Lost(), StatusIs(absl::StatusCode::kInternal)),
      "NOT_FOUND: 'code' is lost");
}

TEST(StatusMatchersTest, AssignsWhatOnlyMoves) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<int> seven, Seven());
  EXPECT_EQ(*seven, 7);
}

}  // namespace
}  // namespace ounce::testing
