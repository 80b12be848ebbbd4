#include "image/webp_lossless.h"

#include <string>
#include <string_view>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "image/decode.h"
#include "tests/image/goldens.h"
#include "tests/testing/status_matchers.h"

namespace ounce::image {
namespace {

using ::ounce::testing::GoldenPicture;
using ::testing::Ge;
using ::testing::Le;
using ::testing::Optional;

// Of a file that has nothing in front of it but the container's header.
std::string Stream(const std::string& name) {
  const std::string file = GoldenPicture(name);
  return file.substr(file.find("VP8L") + 8);
}

TEST(WebpLosslessTest, ReadsUpToTheTablesOfRealPictures) {
  for (const char* name : {"webp_lossless.webp", "webp_lossless_palette.webp",
                           "webp_lossless_alpha.webp", "webp_1x1.webp",
                           "webp_exif3_lossless.webp"}) {
    // One to 40 sets, where 5 x 9 tiles could have 54.
    EXPECT_THAT(LosslessTableBytes(Stream(name)),
                Optional(::testing::AllOf(Ge(12 << 10), Le(40 * (21 << 10)))))
        << name;
  }
}

TEST(WebpLosslessTest, CountsTheSetsThatTilesName) {
  // One of 64x64 noise and waves by tiles, which the encoder gives sets of
  // their own; see make_image_goldens.py.
  const auto bytes = LosslessTableBytes(Stream("webp_lossless_tiles.webp"));
  ASSERT_TRUE(bytes.has_value());
  EXPECT_GE(*bytes, 2 * (13 << 10));
  EXPECT_LE(*bytes, 64 * (21 << 10));
}

TEST(WebpLosslessTest, IsUnknownForWhatIsCutOrBroken) {
  const std::string stream = Stream("webp_lossless.webp");
  EXPECT_EQ(LosslessTableBytes(""), std::nullopt);
  EXPECT_EQ(LosslessTableBytes(stream.substr(0, 8)), std::nullopt);
  std::string broken = stream;
  broken[0] = 0;
  EXPECT_EQ(LosslessTableBytes(broken), std::nullopt);
  // Never more than the worst, whatever is in it.
  for (size_t i = 5; i < stream.size(); ++i) {
    broken = stream;
    broken[i] ^= 0x55;
    EXPECT_LE(LosslessTableBytes(broken).value_or(0),
              MaxLosslessTableBytes(35, 22));
  }
}

// Of one colour, predicted by tiles of 4x4 pixels: a stream of some bytes,
// whatever its size, and no pixels.
std::string Announcing(int width, int height) {
  std::string stream = "\x2f";
  int num_bits = 8;
  const auto write = [&](int value, int count) {
    for (int i = 0; i < count; ++i, ++num_bits) {
      if (num_bits % 8 == 0) stream += '\0';
      stream.back() =
          static_cast<char>(stream.back() | (value >> i & 1) << (num_bits % 8));
    }
  };
  write(width - 1, 14);
  write(height - 1, 14);
  write(0, 1 + 3);      // no alpha, version 0
  write(1, 1 + 2 + 3);  // a predictor for each tile,
  write(0, 1);          // whose image has no cache
  for (int code = 0; code < 5; ++code) write(1, 4);  // and one symbol per code
  write(0, 1 + 1 + 1);  // no other transform, no cache, one set
  return stream + std::string(8, '\0');
}

TEST(WebpLosslessTest, IsUnknownWhereReadingItTakesLong) {
  EXPECT_THAT(LosslessTableBytes(Announcing(4000, 3000)),
              Optional(Le(21 << 10)));
  EXPECT_EQ(LosslessTableBytes(Announcing(16'384, 16'384)), std::nullopt);
}

TEST(WebpLosslessTest, KnowsTheWorst) {
  EXPECT_GT(MaxLosslessTableBytes(4000, 3000), int64_t{65'536} * 20'000);
  EXPECT_LT(MaxLosslessTableBytes(4, 4), 1001 * 22'000);
}

// An ordinary picture costs its pixels and little more.
TEST(WebpLosslessTest, LetsInspectSayWhatAPictureTakes) {
  ASSERT_OK_AND_ASSIGN(const PictureInfo info,
                       Inspect(GoldenPicture("webp_lossless.webp")));
  EXPECT_LT(info.working_bytes, 2 << 20);
}

}  // namespace
}  // namespace ounce::image
