#include "image/exif.h"

#include <string>

#include "gtest/gtest.h"

namespace ounce::image {
namespace {

using namespace std::string_literals;

// A directory at 8 with one entry.
std::string LittleEndianExif(const std::string& entry) {
  return "II*\0\x08\0\0\0\1\0"s + entry + "\0\0\0\0"s;
}

TEST(ExifOrientationTest, ReadsBothByteOrdersAndAllIntegerTypes) {
  EXPECT_EQ(
      ExifOrientation(LittleEndianExif("\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"s)),
      6);
  EXPECT_EQ(ExifOrientation("MM\0*\0\0\0\x08\0\1"
                            "\x01\x12\0\x03\0\0\0\x01\0\x08\0\0"s),
            8);
  EXPECT_EQ(
      ExifOrientation(LittleEndianExif("\x12\x01\x04\0\x01\0\0\0\x03\0\0\0"s)),
      3);
  EXPECT_EQ(
      ExifOrientation(LittleEndianExif("\x12\x01\x01\0\x01\0\0\0\x05\0\0\0"s)),
      5);
}

TEST(ExifOrientationTest, SkipsTheNameInFront) {
  EXPECT_EQ(
      ExifOrientation("Exif\0\0"s +
                      LittleEndianExif("\x12\x01\x03\0\x01\0\0\0\x02\0\0\0"s)),
      2);
}

TEST(ExifOrientationTest, IsUprightWhenThereIsNothingToUse) {
  EXPECT_EQ(ExifOrientation(""), 1);
  EXPECT_EQ(ExifOrientation("Exif\0\0"s), 1);
  EXPECT_EQ(ExifOrientation("II*\0"s), 1);
  EXPECT_EQ(ExifOrientation("II*\0\xff\xff\xff\xff"s), 1);
  // Another tag, a text, no value, 0 and 9.
  for (const std::string& entry : {"\x13\x01\x03\0\x01\0\0\0\x06\0\0\0"s,
                                   "\x12\x01\x02\0\x01\0\0\0\x06\0\0\0"s,
                                   "\x12\x01\x03\0\0\0\0\0\x06\0\0\0"s,
                                   "\x12\x01\x03\0\x01\0\0\0\0\0\0\0"s,
                                   "\x12\x01\x03\0\x01\0\0\0\x09\0\0\0"s}) {
    EXPECT_EQ(ExifOrientation(LittleEndianExif(entry)), 1);
  }
}

TEST(ExifOrientationTest, ReadsNothingBehindTheEnd) {
  const std::string whole =
      LittleEndianExif("\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"s);
  for (size_t size = 0; size < 20; ++size) {
    EXPECT_EQ(ExifOrientation(whole.substr(0, size)), size < 20 ? 1 : 6);
  }
  // 65,535 entries are claimed.
  EXPECT_EQ(ExifOrientation("II*\0\x08\0\0\0\xff\xff"s), 1);
}

TEST(ExifOfRawProfileTest, ReadsDigitsBehindThreeEndsOfLine) {
  EXPECT_EQ(ExifOfRawProfile("\nexif\n       6\n457869\n66 0A0a\n"),
            "Exif\n\n");
  EXPECT_EQ(ExifOfRawProfile("a\nb\nc\n4"), "");
  EXPECT_EQ(ExifOfRawProfile("\nexif\n 2\n4578,6966"), "Ex");
  for (const char* text : {"", "\n", "\nexif\n", "457869", "\n\n\n"}) {
    EXPECT_EQ(ExifOfRawProfile(text), "") << text;
  }
}

}  // namespace
}  // namespace ounce::image
