#include "image/rgb8.h"

#include <utility>

#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ounce::image {
namespace {

using ::ounce::testing::StatusIs;

TEST(Rgb8Test, IsBlackAndDense) {
  ASSERT_OK_AND_ASSIGN(Rgb8 picture, Rgb8::Create(3, 5));
  EXPECT_EQ(picture.height(), 3);
  EXPECT_EQ(picture.width(), 5);
  EXPECT_EQ(picture.num_bytes(), 45);
  EXPECT_EQ(picture.row(2) - picture.data(), 30);
  for (int i = 0; i < 45; ++i) EXPECT_EQ(picture.data()[i], 0);
}

TEST(Rgb8Test, RefusesSizesThatNoPictureHas) {
  const auto invalid = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Rgb8::Create(0, 5), invalid);
  EXPECT_THAT(Rgb8::Create(5, -1), invalid);
  EXPECT_THAT(Rgb8::Create(int64_t{1} << 24, int64_t{1} << 24), invalid);
  EXPECT_THAT(Rgb8::Create(1, int64_t{1} << 62), invalid);
}

TEST(Rgb8Test, IsEmptyAfterItWasMoved) {
  ASSERT_OK_AND_ASSIGN(Rgb8 picture, Rgb8::Create(3, 5));
  picture.data()[44] = 7;
  const Rgb8 other = std::move(picture);
  EXPECT_EQ(other.row(2)[14], 7);
  EXPECT_EQ(picture.height(), 0);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(picture.width(), 0);   // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(picture.num_bytes(), 0);
}

}  // namespace
}  // namespace ounce::image
