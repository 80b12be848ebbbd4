#include "client/draw.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "client/palette.h"
#include "gtest/gtest.h"
#include "image/decode.h"
#include "tests/testing/status_matchers.h"

namespace ounce::client {
namespace {

constexpr uint8_t kGrey = 128;

image::Rgb8 GreyPicture(int64_t width, int64_t height) {
  image::Rgb8 picture = *image::Rgb8::Create(height, width);
  std::memset(picture.data(), kGrey, picture.num_bytes());
  return picture;
}

void Add(v1::DetectObjectsResponse* response, int32_t label_id, float x_min,
         float y_min, float x_max, float y_max, float score = 0.95f) {
  v1::Detection* detection = response->add_detections();
  detection->set_label("thing");
  detection->set_label_id(label_id);
  detection->set_score(score);
  detection->mutable_box()->set_x_min(x_min);
  detection->mutable_box()->set_y_min(y_min);
  detection->mutable_box()->set_x_max(x_max);
  detection->mutable_box()->set_y_max(y_max);
}

// What was drawn, read back.
image::Rgb8 Draw(const image::Rgb8& picture,
                 const v1::DetectObjectsResponse& response) {
  const absl::StatusOr<std::string> png = DrawDetections(picture, response);
  EXPECT_OK(png);
  absl::StatusOr<image::Rgb8> drawn = image::Decode(*png);
  EXPECT_OK(drawn);
  EXPECT_EQ(drawn->width(),
            picture.width() * DrawnZoom(picture.width(), picture.height()));
  EXPECT_EQ(drawn->height(),
            picture.height() * DrawnZoom(picture.width(), picture.height()));
  return *std::move(drawn);
}

bool HasColor(const image::Rgb8& picture, int64_t x, int64_t y,
              const Color& color) {
  const uint8_t* pixel = picture.row(y) + 3 * x;
  return std::abs(pixel[0] - 255 * color.red) < 3 &&
         std::abs(pixel[1] - 255 * color.green) < 3 &&
         std::abs(pixel[2] - 255 * color.blue) < 3;
}

bool IsGrey(const image::Rgb8& picture, int64_t x, int64_t y) {
  const uint8_t* pixel = picture.row(y) + 3 * x;
  return pixel[0] == kGrey && pixel[1] == kGrey && pixel[2] == kGrey;
}

// Pixels of a label's colour, frame and label together.
int64_t NumOfColor(const image::Rgb8& picture, const Color& color) {
  int64_t num = 0;
  for (int64_t y = 0; y < picture.height(); ++y) {
    for (int64_t x = 0; x < picture.width(); ++x) {
      num += HasColor(picture, x, y, color);
    }
  }
  return num;
}

TEST(DrawTest, DrawsAFrameAndALabelInTheLabelsColour) {
  v1::DetectObjectsResponse response;
  Add(&response, 4, 200, 150, 400, 350);
  const image::Rgb8 drawn = Draw(GreyPicture(640, 480), response);
  const Color color = LabelColor(4);
  EXPECT_TRUE(HasColor(drawn, 200, 250, color));
  EXPECT_TRUE(HasColor(drawn, 400, 250, color));
  EXPECT_TRUE(HasColor(drawn, 300, 150, color));
  EXPECT_TRUE(HasColor(drawn, 300, 350, color));
  // The label is above, as wide as its text.
  EXPECT_TRUE(HasColor(drawn, 203, 140, color));
  EXPECT_TRUE(IsGrey(drawn, 390, 140));
}

TEST(DrawTest, LeavesTheRestAsItIs) {
  v1::DetectObjectsResponse response;
  Add(&response, 0, 200, 150, 400, 350);
  const image::Rgb8 drawn = Draw(GreyPicture(640, 480), response);
  for (int64_t y = 0; y < drawn.height(); ++y) {
    for (int64_t x = 0; x < drawn.width(); ++x) {
      const bool near = x > 190 && x < 410 && y > 120 && y < 360;
      const bool inside = x > 210 && x < 390 && y > 160 && y < 340;
      if (!near || inside) {
        ASSERT_TRUE(IsGrey(drawn, x, y)) << x << ", " << y;
      }
    }
  }
}

TEST(DrawTest, WritesThePictureItselfWhereNothingWasDetected) {
  image::Rgb8 picture = GreyPicture(700, 20);
  for (int64_t i = 0; i < picture.num_bytes(); ++i) {
    picture.data()[i] = static_cast<uint8_t>(i * 31);
  }
  const image::Rgb8 drawn = Draw(picture, {});
  EXPECT_EQ(std::memcmp(drawn.data(), picture.data(), picture.num_bytes()), 0);
}

TEST(DrawTest, ShowsTheWholeLineOfABoxThatFillsThePicture) {
  v1::DetectObjectsResponse response;
  Add(&response, 1, 0, 0, 640, 480);
  const image::Rgb8 drawn = Draw(GreyPicture(640, 480), response);
  const Color color = LabelColor(1);
  EXPECT_TRUE(HasColor(drawn, 2, 240, color));
  EXPECT_TRUE(HasColor(drawn, 637, 240, color));
  EXPECT_TRUE(HasColor(drawn, 500, 2, color));
  EXPECT_TRUE(HasColor(drawn, 320, 477, color));
}

TEST(DrawTest, DrawsTheBestDetectionOnTop) {
  v1::DetectObjectsResponse response;
  Add(&response, 0, 100, 100, 300, 300, 0.99f);
  Add(&response, 1, 100, 100, 300, 300, 0.91f);
  const image::Rgb8 drawn = Draw(GreyPicture(640, 480), response);
  EXPECT_TRUE(HasColor(drawn, 100, 200, LabelColor(0)));
  EXPECT_TRUE(HasColor(drawn, 200, 300, LabelColor(0)));
}

TEST(DrawTest, GrowsWithThePicture) {
  // Pixels of the label's colour in a row through the frame, and all of them.
  const auto measure = [](int64_t scale) {
    v1::DetectObjectsResponse response;
    const auto unit = static_cast<float>(scale);
    Add(&response, 2, 200 * unit, 150 * unit, 400 * unit, 350 * unit);
    const image::Rgb8 drawn =
        Draw(GreyPicture(640 * scale, 480 * scale), response);
    int64_t in_row = 0;
    for (int64_t x = 0; x < drawn.width(); ++x) {
      in_row += HasColor(drawn, x, 250 * scale, LabelColor(2));
    }
    return std::pair(in_row, NumOfColor(drawn, LabelColor(2)));
  };
  const auto small = measure(1), large = measure(5);
  EXPECT_GE(small.first, 2);
  EXPECT_GT(large.first, 3 * small.first);
  EXPECT_GT(large.second, 15 * small.second);
  EXPECT_LT(large.second, 50 * small.second);
}

TEST(DrawTest, EnlargesPicturesThatAreTooSmallForLetters) {
  EXPECT_EQ(DrawnZoom(640, 480), 1);
  EXPECT_EQ(DrawnZoom(321, 10), 1);
  EXPECT_EQ(DrawnZoom(10, 320), 2);
  EXPECT_EQ(DrawnZoom(128, 128), 5);
  EXPECT_EQ(DrawnZoom(1, 1), 8);
  v1::DetectObjectsResponse response;
  Add(&response, 3, 40, 60, 100, 120);
  const image::Rgb8 drawn = Draw(GreyPicture(128, 128), response);
  EXPECT_TRUE(HasColor(drawn, 5 * 40, 5 * 90, LabelColor(3)));
  EXPECT_TRUE(HasColor(drawn, 5 * 70, 5 * 120, LabelColor(3)));
  EXPECT_TRUE(IsGrey(drawn, 5 * 70, 5 * 90));
}

TEST(DrawTest, DrawsWhateverBoxesComeOnPicturesOfAnySize) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  v1::DetectObjectsResponse response;
  Add(&response, 0, -1e30f, -1e30f, 1e30f, 1e30f);
  Add(&response, 1, 5, 5, 5, 5);
  Add(&response, 2, 9, 9, 1, 1);
  Add(&response, 3, 0, 0, kInf, 5);
  Add(&response, 4, kNan, 0, 5, 5);
  Add(&response, 5, 1, 1, 5, 5, kNan);
  Add(&response, -6, 1, 1, 5, 5, 1e30f);
  response.mutable_detections(1)->set_label(std::string(500, 'w'));
  response.mutable_detections(2)->set_label("");
  response.mutable_detections(6)->set_label("Κύων\n\t犬");
  for (const auto& [width, height] : std::vector<std::pair<int, int>>{
           {1, 1}, {1, 700}, {700, 1}, {3, 2}, {90, 700}, {16384, 2}}) {
    Draw(GreyPicture(width, height), response);
  }
}

TEST(DrawTest, LeavesOutWhatHasNoPlaceOrNoScore) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  v1::DetectObjectsResponse response;
  Add(&response, 0, 100, 100, 200, kInf);
  Add(&response, 0, kNan, 100, 200, 200);
  Add(&response, 0, 100, 100, 200, 200, kNan);
  const image::Rgb8 drawn = Draw(GreyPicture(640, 480), response);
  EXPECT_EQ(NumOfColor(drawn, LabelColor(0)), 0);
}

TEST(DrawTest, MarksEvenAPoint) {
  v1::DetectObjectsResponse response;
  Add(&response, 1, 320, 240, 320, 240);
  const image::Rgb8 drawn = Draw(GreyPicture(640, 480), response);
  int num = 0;
  for (int64_t y = 236; y < 245; ++y) {
    for (int64_t x = 316; x < 325; ++x) {
      num += HasColor(drawn, x, y, LabelColor(1));
    }
  }
  EXPECT_GT(num, 8);
}

TEST(DrawTest, RefusesTextThatIsNoUtf8) {
  v1::DetectObjectsResponse response;
  Add(&response, 0, 10, 10, 50, 50);
  response.mutable_detections(0)->set_label("\xff\xfe");
  EXPECT_THAT(DrawDetections(GreyPicture(640, 480), response),
              testing::StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(DrawTest, RoundsNoScoreUpToAll) {
  EXPECT_EQ(ScoreText(0.5f), "50%");
  EXPECT_EQ(ScoreText(0.994f), "99%");
  EXPECT_EQ(ScoreText(0.9977f), "99.7%");
  EXPECT_EQ(ScoreText(0.999'99f), "99.9%");
  EXPECT_EQ(ScoreText(1), "100%");
  EXPECT_EQ(ScoreText(0), "0%");
}

}  // namespace
}  // namespace ounce::client
