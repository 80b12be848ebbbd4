#include "image/decode.h"

#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/image/goldens.h"
#include "tests/testing/status_matchers.h"

namespace ounce::image {
namespace {

using ::ounce::testing::Crc;
using ::ounce::testing::GoldenLines;
using ::ounce::testing::GoldenPicture;

// Both sides use libjpeg-turbo, libpng and libwebp, if of other versions; those
// have agreed on every byte for years, so no tolerance.
TEST(DecodeTest, GivesPillowsBytesForEveryFormOfPicture) {
  const auto lines = GoldenLines("decoded.txt");
  ASSERT_GT(lines.size(), 70u);
  for (const auto& line : lines) {
    SCOPED_TRACE(line[0]);
    const std::string bytes = GoldenPicture(line[0]);
    ASSERT_OK_AND_ASSIGN(const PictureInfo info, Inspect(bytes));
    EXPECT_EQ(std::to_string(info.width), line[1]);
    EXPECT_EQ(std::to_string(info.height), line[2]);
    EXPECT_EQ(info.frames, 1);
    ASSERT_OK_AND_ASSIGN(const Rgb8 picture, Decode(bytes));
    EXPECT_EQ(picture.width(), info.width);
    EXPECT_EQ(picture.height(), info.height);
    EXPECT_EQ(Crc(picture), line[3]);
  }
}

TEST(DecodeTest, NamesTheFormat) {
  for (const auto& [name, format] :
       {std::pair("jpeg_444.jpg", Format::kJpeg),
        std::pair("png_rgb8.png", Format::kPng),
        std::pair("webp_lossy.webp", Format::kWebp)}) {
    ASSERT_OK_AND_ASSIGN(const PictureInfo info, Inspect(GoldenPicture(name)));
    EXPECT_EQ(info.format, format) << name;
  }
  EXPECT_EQ(FormatName(Format::kJpeg), "JPEG");
  EXPECT_EQ(FormatName(Format::kPng), "PNG");
  EXPECT_EQ(FormatName(Format::kWebp), "WebP");
}

TEST(DecodeTest, SaysTheSizeAfterTurning) {
  ASSERT_OK_AND_ASSIGN(const PictureInfo upright,
                       Inspect(GoldenPicture("jpeg_exif1.jpg")));
  EXPECT_EQ(upright.orientation, 1);
  EXPECT_EQ(upright.width, 11);
  EXPECT_EQ(upright.height, 7);
  ASSERT_OK_AND_ASSIGN(const PictureInfo turned,
                       Inspect(GoldenPicture("jpeg_exif6.jpg")));
  EXPECT_EQ(turned.orientation, 6);
  EXPECT_EQ(turned.width, 7);
  EXPECT_EQ(turned.height, 11);
}

TEST(DecodeTest, CountsTheCoefficientsOfAProgressivePicture) {
  ASSERT_OK_AND_ASSIGN(const PictureInfo sequential,
                       Inspect(GoldenPicture("jpeg_444.jpg")));
  ASSERT_OK_AND_ASSIGN(const PictureInfo progressive,
                       Inspect(GoldenPicture("jpeg_progressive_444.jpg")));
  // Three components of 5 x 3 blocks of 64 coefficients of two bytes at least.
  EXPECT_GE(progressive.working_bytes,
            sequential.working_bytes + 3 * 5 * 3 * 64 * 2);
  EXPECT_GE(DecodedBytes(sequential), 37 * 23 * 3);
}

TEST(DecodeTest, CountsTheTurnedCopy) {
  ASSERT_OK_AND_ASSIGN(PictureInfo info,
                       Inspect(GoldenPicture("png_exif6_before_pixels.png")));
  EXPECT_GE(DecodedBytes(info), 2 * info.width * info.height * 3);
}

}  // namespace
}  // namespace ounce::image
