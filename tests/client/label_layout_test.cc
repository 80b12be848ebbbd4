#include "client/label_layout.h"

#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::client {
namespace {

MATCHER_P4(IsAt, left, top, right, bottom, "") {
  *result_listener << arg.left << ", " << arg.top << ", " << arg.right << ", "
                   << arg.bottom;
  return arg.left == left && arg.top == top && arg.right == right &&
         arg.bottom == bottom;
}

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(LabelLayoutTest, PutsALabelAboveItsFrame) {
  EXPECT_THAT(PlaceLabels({{{100, 100, 200, 200}, 60, 20}}, 400, 300),
              ElementsAre(IsAt(100, 80, 160, 100)));
  EXPECT_THAT(PlaceLabels({}, 400, 300), IsEmpty());
}

TEST(LabelLayoutTest, PutsALabelInsideWhereThereIsNoRoomAbove) {
  EXPECT_THAT(PlaceLabels({{{100, 5, 300, 200}, 60, 20}}, 400, 300),
              ElementsAre(IsAt(100, 5, 160, 25)));
}

TEST(LabelLayoutTest, PutsALabelThatIsWiderThanItsFrameIntoThePicture) {
  EXPECT_THAT(PlaceLabels({{{380, 100, 400, 120}, 60, 20}}, 400, 300),
              ElementsAre(IsAt(340, 80, 400, 100)));
}

TEST(LabelLayoutTest, LetsTheFirstLabelChooseAndTheSecondGiveWay) {
  const Label label = {{100, 100, 200, 200}, 80, 20};
  const auto places = PlaceLabels({label, label, label}, 400, 300);
  EXPECT_THAT(places[0], IsAt(100, 80, 180, 100));
  EXPECT_EQ(OverlapArea(places[0], places[1]), 0);
  EXPECT_EQ(OverlapArea(places[0], places[2]), 0);
  EXPECT_EQ(OverlapArea(places[1], places[2]), 0);
}

TEST(LabelLayoutTest, HidesNoSmallObjectUnderALabel) {
  const Label big = {{100, 100, 300, 250}, 80, 20};
  const Label small = {{110, 84, 130, 96}, 40, 20};  // where big's would go
  const auto places = PlaceLabels({big, small}, 400, 300);
  EXPECT_EQ(OverlapArea(places[0], small.frame), 0);
}

TEST(LabelLayoutTest, CutsALabelThatIsLargerThanThePicture) {
  EXPECT_THAT(PlaceLabels({{{0, 0, 8, 8}, 60, 20}}, 8, 8),
              ElementsAre(IsAt(0, 0, 8, 8)));
}

TEST(LabelLayoutTest, KeepsManyLabelsInsideAndMostlyApart) {
  std::mt19937 random(1);
  const auto upTo = [&](double most) {
    return std::uniform_real_distribution<double>(0, most)(random);
  };
  std::vector<Label> labels;
  for (int i = 0; i < 40; ++i) {
    const double left = upTo(900), top = upTo(600);
    labels.push_back(
        {{left, top, left + upTo(1000 - left), top + upTo(700 - top)}, 90, 20});
  }
  const auto places = PlaceLabels(labels, 1000, 700);
  int num_overlaps = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    EXPECT_GE(places[i].left, 0);
    EXPECT_GE(places[i].top, 0);
    EXPECT_LE(places[i].right, 1000);
    EXPECT_LE(places[i].bottom, 700);
    for (size_t j = 0; j < i; ++j) {
      num_overlaps += OverlapArea(places[i], places[j]) > 0;
    }
  }
  EXPECT_LE(num_overlaps, 2);
}

}  // namespace
}  // namespace ounce::client
