// What image/decode.h refuses, and that nothing beyond a limit is decoded.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/mapped_memory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "image/decode.h"
#include "tests/image/goldens.h"
#include "tests/testing/status_matchers.h"

namespace ounce::image {
namespace {

using namespace std::string_literals;
using ::ounce::testing::GoldenPicture;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kOver = absl::StatusCode::kResourceExhausted;

std::string BigEndian(uint32_t value, int bytes = 4) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) {
    text.push_back(static_cast<char>(value >> (8 * i)));
  }
  return text;
}

std::string LittleEndian(uint32_t value, int bytes = 4) {
  const std::string text = BigEndian(value, bytes);
  return std::string(text.rbegin(), text.rend());
}

std::string PngChunk(const std::string& type, const std::string& data) {
  const std::string body = type + data;
  const uint32_t crc =
      crc32(0, reinterpret_cast<const Bytef*>(body.data()), body.size());
  return BigEndian(data.size()) + body + BigEndian(crc);
}

std::string Compressed(const std::string& data) {
  uLongf size = compressBound(data.size());
  std::string out(size, '\0');
  compress(reinterpret_cast<Bytef*>(out.data()), &size,
           reinterpret_cast<const Bytef*>(data.data()), data.size());
  out.resize(size);
  return out;
}

// `size` zeros, which are never in memory at once.
std::string CompressedZeros(int64_t size) {
  z_stream stream = {};
  OUNCE_CHECK(deflateInit(&stream, 9) == Z_OK, "zlib");
  std::string zeros(1 << 16, '\0'), out;
  for (int64_t left = size; left > 0; left -= zeros.size()) {
    const bool last = left <= static_cast<int64_t>(zeros.size());
    stream.next_in = reinterpret_cast<Bytef*>(zeros.data());
    stream.avail_in = last ? left : zeros.size();
    do {
      char buffer[4096];
      stream.next_out = reinterpret_cast<Bytef*>(buffer);
      stream.avail_out = sizeof(buffer);
      deflate(&stream, last ? Z_FINISH : Z_NO_FLUSH);
      out.append(buffer, sizeof(buffer) - stream.avail_out);
    } while (stream.avail_out == 0);
  }
  deflateEnd(&stream);
  return out;
}

// Grey, 8 bit, with whatever stands between the header and the pixels.
std::string Png(uint32_t width, uint32_t height, const std::string& pixels,
                const std::string& before = "") {
  return "\x89PNG\r\n\x1a\n" +
         PngChunk("IHDR", BigEndian(width) + BigEndian(height) +
                              std::string("\x08\0\0\0\0", 5)) +
         before + PngChunk("IDAT", Compressed(pixels)) + PngChunk("IEND", "");
}

// `jpeg` with another size in its frame header.
std::string Resized(std::string jpeg, uint32_t width, uint32_t height) {
  size_t at = jpeg.find("\xff\xc0"s);
  if (at == jpeg.npos) at = jpeg.find("\xff\xc2"s);  // progressive
  jpeg.replace(at + 5, 4, BigEndian(height, 2) + BigEndian(width, 2));
  return jpeg;
}

TEST(DecodeRefusalsTest, SaysWhatItWasGivenInsteadOfAPicture) {
  const auto refused = [](std::string_view bytes, const char* what) {
    EXPECT_THAT(Inspect(bytes), StatusIs(kInvalid, HasSubstr(what))) << what;
    EXPECT_THAT(Decode(bytes), StatusIs(kInvalid, HasSubstr(what))) << what;
  };
  refused("", "not a picture in JPEG, PNG or WebP: no bytes at all");
  refused("GIF89a\1\0\1\0"s, "a GIF");
  refused("BM\x46\0\0\0"s, "a BMP");
  refused("II*\0\x08\0\0\0"s, "a TIFF");
  refused("MM\0*\0\0\0\x08"s, "a TIFF");
  refused(std::string(3, '\0') + "\x18" + "ftypheic", "a HEIC");
  refused(std::string(3, '\0') + "\x18" + "ftypavif", "an AVIF");
  refused(std::string(3, '\0') + "\x18" + "ftypisom", "a video");
  refused("%PDF-1.7\n", "a PDF");
  refused("PK\3\4"s, "a ZIP archive");
  refused("<svg xmlns=''/>", "an SVG");
  refused("a cat on a couch\n", "text");
  refused(std::string(100, '\0'), "zeros");
  refused("\x01\x02\xfe\xff\0\0\0\0\0\0"s, "begin with 01 02 fe ff 00");
  refused("\xff\xd8"s, "begin with ff d8");
  refused("RIFF\x24\0\0\0WAVEfmt "s, "begin with 52 49 46 46");
}

TEST(DecodeRefusalsTest, TellsATruncatedPicture) {
  for (const char* name :
       {"jpeg_444.jpg", "jpeg_progressive_420.jpg", "jpeg_cmyk.jpg",
        "png_rgb8.png", "png_rgb8_interlaced.png", "webp_lossy.webp",
        "webp_lossless.webp", "webp_lossy_alpha.webp"}) {
    const std::string bytes = GoldenPicture(name);
    SCOPED_TRACE(name);
    for (size_t size = 12; size < bytes.size() / 2; ++size) {
      const auto decoded = Decode(bytes.substr(0, size));
      ASSERT_EQ(decoded.status().code(), kInvalid) << size;
    }
    EXPECT_THAT(Decode(bytes.substr(0, bytes.size() / 2)),
                StatusIs(kInvalid, HasSubstr("truncated: its ")));
  }
  // As Pillow: a JPEG needs its end, a PNG only its pixels.
  const std::string jpeg = GoldenPicture("jpeg_444.jpg");
  EXPECT_THAT(Decode(jpeg.substr(0, jpeg.size() - 2)),
              StatusIs(kInvalid, HasSubstr("truncated")));
}

TEST(DecodeRefusalsTest, TellsACorruptPicture) {
  std::string png = GoldenPicture("png_rgb8.png");
  png[png.find("IDAT") + 10] ^= 0x40;
  EXPECT_THAT(Decode(png), StatusIs(kInvalid, HasSubstr("PNG: corrupt")));
  std::string jpeg = GoldenPicture("jpeg_444.jpg");
  jpeg[jpeg.find("\xff\xc0"s) + 4] = 12;  // bits per sample
  EXPECT_THAT(Inspect(jpeg), StatusIs(kInvalid, HasSubstr("JPEG: corrupt")));
  std::string webp = GoldenPicture("webp_lossy.webp");
  webp[webp.find("VP8 ") + 11] ^= 0x7f;  // the start code
  EXPECT_THAT(Inspect(webp), StatusIs(kInvalid, HasSubstr("WebP: ")));
}

TEST(DecodeRefusalsTest, RefusesAnimations) {
  const std::string pixels(2 * 3, '\0');
  const std::string animated =
      Png(2, 2, pixels, PngChunk("acTL", BigEndian(3) + BigEndian(0)));
  EXPECT_THAT(Decode(animated),
              StatusIs(kInvalid, HasSubstr("PNG: an animation of 3 frames")));

  std::string body = "WEBPVP8X" + LittleEndian(10) + LittleEndian(2) +
                     LittleEndian(3, 3) + LittleEndian(3, 3);
  body += "ANIM" + LittleEndian(6) + std::string(6, '\0');
  for (int frame = 0; frame < 2; ++frame) {
    body += "ANMF" + LittleEndian(16) + std::string(16, '\0');
  }
  EXPECT_THAT(Decode("RIFF" + LittleEndian(body.size()) + body),
              StatusIs(kInvalid, HasSubstr("WebP: an animation of 2 frames; "
                                           "send one frame as a still")));
}

// One frame is a still picture, if it lies on its canvas.
TEST(DecodeRefusalsTest, RefusesAFrameThatLeavesItsCanvas) {
  std::string webp = GoldenPicture("webp_one_frame_lossy.webp");
  EXPECT_OK(Decode(webp));
  webp[webp.find("ANMF") + 8] = 9;  // twice this, of 35 from 50
  EXPECT_THAT(Decode(webp),
              StatusIs(kInvalid, HasSubstr("35x22 at 18,6 of a canvas of "
                                           "50x31")));
  const std::string whole = GoldenPicture("webp_one_frame_exif6.webp");
  for (size_t size = 12; size < whole.size(); ++size) {
    std::string cut = whole.substr(0, size);
    cut.replace(4, 4, LittleEndian(size - 8));
    EXPECT_FALSE(Decode(cut).ok() && size < whole.find("EXIF")) << size;
  }
}

TEST(DecodeRefusalsTest, RefusesMoreBytesThanTheLimit) {
  const std::string bytes = GoldenPicture("jpeg_444.jpg");
  EXPECT_THAT(Inspect(bytes, {.max_bytes = 100}),
              StatusIs(kOver, AllOf(HasSubstr(std::to_string(bytes.size())),
                                    HasSubstr("at most 100 are allowed"))));
  EXPECT_OK(Inspect(bytes, {.max_bytes = static_cast<int64_t>(bytes.size())}));
}

TEST(DecodeRefusalsTest, RefusesMorePixelsThanTheLimitInEveryFormat) {
  for (const char* name : {"jpeg_444.jpg", "png_rgb8.png", "webp_lossy.webp",
                           "webp_lossless.webp"}) {
    SCOPED_TRACE(name);
    const std::string bytes = GoldenPicture(name);
    ASSERT_OK_AND_ASSIGN(const PictureInfo info, Inspect(bytes));
    const int64_t pixels = info.width * info.height;
    EXPECT_OK(Decode(bytes, {.max_pixels = pixels}));
    EXPECT_THAT(
        Decode(bytes, {.max_pixels = pixels - 1}),
        StatusIs(kOver, AllOf(HasSubstr(std::to_string(info.width) + "x" +
                                        std::to_string(info.height)),
                              HasSubstr("in all"))));
    EXPECT_OK(Decode(bytes, {.max_dimension = info.width}));
    EXPECT_THAT(Decode(bytes, {.max_dimension = info.width - 1}),
                StatusIs(kOver, HasSubstr("a side")));
  }
}

TEST(DecodeRefusalsTest, RefusesExtremeSizes) {
  const std::string jpeg = GoldenPicture("jpeg_444.jpg");
  EXPECT_THAT(Inspect(Resized(jpeg, 1, 65'000)),
              StatusIs(kOver, HasSubstr("1x65000 pixels; at most 16384")));
  EXPECT_THAT(Inspect(Resized(jpeg, 16'000, 16'000)),
              StatusIs(kOver, HasSubstr("at most 64000000 in all")));
  EXPECT_THAT(Inspect(Resized(jpeg, 0, 10)), StatusIs(kInvalid));
  EXPECT_THAT(Inspect(Resized(jpeg, 10, 0)), StatusIs(kInvalid));
  EXPECT_THAT(Decode(Png(1, 100'000, "")),
              StatusIs(kOver, HasSubstr("1x100000 pixels; at most 16384")));
  EXPECT_THAT(Decode(Png(0xffffffff, 0xffffffff, "")), StatusIs(kOver));
  EXPECT_THAT(Decode(Png(0, 7, "")),
              StatusIs(kInvalid, HasSubstr("0x7 pixels")));
  EXPECT_OK(Decode(Png(1, 1, std::string(2, '\0'))));
}

TEST(DecodeRefusalsTest, TakesNoMemoryForAPictureOverALimit) {
  // 192 MB of zeros in 187 kB.
  const std::string bomb =
      "\x89PNG\r\n\x1a\n" +
      PngChunk("IHDR", BigEndian(16'000) + BigEndian(12'000) +
                           std::string("\x08\0\0\0\0", 5)) +
      PngChunk("IDAT", CompressedZeros(16'001 * 12'000)) + PngChunk("IEND", "");
  const int64_t before = PeakResidentBytes();
  EXPECT_THAT(Decode(bomb), StatusIs(kOver));
  EXPECT_LT(PeakResidentBytes() - before, 4 << 20);
  // Under the limit it is a black picture, to the end.
  EXPECT_OK(Inspect(bomb, {.max_pixels = 192'000'000}));
}

TEST(DecodeRefusalsTest, ChunksWithoutPixelsCostNoMemory) {
  // A comment and a colour profile that unpack to 64 MB.
  const std::string bomb = CompressedZeros(64 << 20);
  const int64_t before = PeakResidentBytes();
  const std::string png = Png(1, 1, std::string(2, '\0'),
                              PngChunk("zTXt", "Comment\0\0"s + bomb) +
                                  PngChunk("iCCP", "profile\0\0"s + bomb));
  EXPECT_OK(Decode(png));
  EXPECT_LT(PeakResidentBytes() - before, 4 << 20);
}

// libpng would unpack all of it, for nothing.
TEST(DecodeRefusalsTest, UnpacksLittleMoreThanThePixels) {
  const auto png = [](int64_t size) {
    return "\x89PNG\r\n\x1a\n" +
           PngChunk("IHDR", BigEndian(1) + BigEndian(1) +
                                std::string("\x08\0\0\0\0", 5)) +
           PngChunk("IDAT", CompressedZeros(size)) + PngChunk("IEND", "");
  };
  EXPECT_OK(Decode(png(1 << 20)));
  EXPECT_THAT(Decode(png(128 << 20)),
              StatusIs(kInvalid, HasSubstr("far more data than")));
}

// A picture whose scans end early is grey from there on, but not smaller.
TEST(DecodeRefusalsTest, TakesNoMoreMemoryThanItSaid) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer adds memory of its own";
#endif
  const std::string jpeg =
      Resized(GoldenPicture("jpeg_progressive_444.jpg"), 3000, 2500);
  ASSERT_OK_AND_ASSIGN(const PictureInfo info, Inspect(jpeg));
  const int64_t before = PeakResidentBytes();
  ASSERT_OK(Decode(jpeg));
  const int64_t taken = PeakResidentBytes() - before;
  EXPECT_LE(taken, DecodedBytes(info) + (2 << 20));
  // Nor is the bound far off, or a server would refuse what it can take.
  EXPECT_GT(taken, DecodedBytes(info) / 2);
}

// Scans that say nothing cost a walk over all blocks each.
TEST(DecodeRefusalsTest, RefusesAJpegOfManyScans) {
  std::string jpeg = GoldenPicture("jpeg_progressive_444.jpg");
  const size_t end = jpeg.rfind("\xff\xd9"s);
  const size_t last_scan = jpeg.rfind("\xff\xda"s);
  const std::string scan = jpeg.substr(last_scan, end - last_scan);
  std::string many = jpeg.substr(0, end);
  for (int i = 0; i < 100; ++i) many += scan;
  many += "\xff\xd9";
  EXPECT_THAT(Decode(many), StatusIs(kOver, HasSubstr("64 scans")));
}

TEST(DecodeRefusalsTest, RefusesAWebpOfAnotherSizeThanItsCanvas) {
  std::string webp = GoldenPicture("webp_lossy_alpha.webp");
  const size_t canvas = webp.find("VP8X") + 12;
  webp[canvas] ^= 1;
  EXPECT_THAT(Decode(webp),
              StatusIs(kInvalid, HasSubstr("at 0,0 of a canvas of")));
}

TEST(DecodeRefusalsTest, SurvivesEveryByteChanged) {
  for (const char* name :
       {"jpeg_progressive_420.jpg", "jpeg_exif6.jpg",
        "png_palette4_interlaced.png", "webp_lossless.webp", "webp_exif6.webp",
        "webp_one_frame_lossy.webp", "png_exif8_in_packed_text.png"}) {
    const std::string bytes = GoldenPicture(name);
    for (size_t i = 0; i < bytes.size(); ++i) {
      std::string changed = bytes;
      changed[i] ^= 0xff;
      const auto decoded = Decode(changed, {.max_pixels = 100'000});
      if (decoded.ok()) continue;
      ASSERT_THAT(decoded.status().code(), AnyOf(kInvalid, kOver))
          << name << " byte " << i << ": " << decoded.status();
    }
  }
}

// A text that unpacks to far more than EXIF is not unpacked whole, nor more
// than one of them.
TEST(DecodeRefusalsTest, TakesLittleOfAPackedText) {
  const std::string bomb =
      PngChunk("zTXt", "Raw profile type exif\0\0"s +
                           CompressedZeros(int64_t{512} << 20));
  std::string texts;
  for (int i = 0; i < 20; ++i) texts += bomb;
  const std::string png = Png(1, 1, std::string(2, '\0'), texts);
  ASSERT_GT(png.size(), 5'000'000u);
  const int64_t before = PeakResidentBytes();
  const auto info = Inspect(png);
  ASSERT_OK(info);
  EXPECT_EQ(info->orientation, 1);
  EXPECT_LT(PeakResidentBytes() - before, 4 << 20);
}

}  // namespace
}  // namespace ounce::image
