#include <stdlib.h>

#include <cmath>
#include <cstring>

#include "client/draw.h"
#include "client/palette.h"
#include "gtest/gtest.h"
#include "image/decode.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::client {
namespace {

TEST(DrawWithoutFontsTest, DrawsFramesAndLabels) {
  const testing::TempFolder folder;
  const std::string config = folder.WriteFile(
      "fonts.conf", "<?xml version=\"1.0\"?><fontconfig></fontconfig>");
  setenv("FONTCONFIG_FILE", config.c_str(), 1);
  image::Rgb8 picture = *image::Rgb8::Create(480, 640);
  std::memset(picture.data(), 128, picture.num_bytes());
  v1::DetectObjectsResponse response;
  v1::Detection* detection = response.add_detections();
  detection->set_label("cat");
  detection->set_score(0.99f);
  detection->mutable_box()->set_x_min(100);
  detection->mutable_box()->set_y_min(100);
  detection->mutable_box()->set_x_max(300);
  detection->mutable_box()->set_y_max(300);
  ASSERT_OK_AND_ASSIGN(const std::string png,
                       DrawDetections(picture, response));
  ASSERT_OK_AND_ASSIGN(const image::Rgb8 drawn, image::Decode(png));
  const Color color = LabelColor(0);
  for (const auto& [x, y] : {std::pair(100, 200), std::pair(103, 92)}) {
    const uint8_t* pixel = drawn.row(y) + 3 * x;
    EXPECT_NEAR(pixel[0], 255 * color.red, 3) << x << ", " << y;
    EXPECT_NEAR(pixel[1], 255 * color.green, 3);
    EXPECT_NEAR(pixel[2], 255 * color.blue, 3);
  }
}

}  // namespace
}  // namespace ounce::client
