#include "model/processors/detr_image_processor.h"

#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "image/decode.h"
#include "image/resize.h"
#include "tests/image/goldens.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using ::ounce::testing::Crc;
using ::ounce::testing::GoldenLines;
using ::ounce::testing::Noise;
using ::ounce::testing::ReadFileOrDie;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

absl::StatusOr<DetrImageProcessor> Parse(const std::string& text) {
  return DetrImageProcessor::Parse("preprocessor_config.json", text);
}

// "<height>x<width>", or the error.
std::string Target(const ImageProcessor& processor, int64_t height,
                   int64_t width) {
  const auto size = processor.TargetSize(height, width);
  if (!size.ok()) return size.status().ToString();
  return std::to_string(size->height) + "x" + std::to_string(size->width);
}

std::string Target(const absl::StatusOr<DetrImageProcessor>& processor,
                   int64_t height, int64_t width) {
  if (!processor.ok()) return processor.status().ToString();
  return Target(*processor, height, width);
}

TEST(DetrImageProcessorTest, ChoosesTheSizesThatTransformersChooses) {
  const auto lines = GoldenLines("sizes.txt");
  ASSERT_GT(lines.size(), 100u);
  int elongated = 0;
  for (const auto& line : lines) {
    const auto processor = Parse(R"({"size": {"shortest_edge": )" + line[0] +
                                 R"(, "longest_edge": )" + line[1] + "}}");
    const int64_t height = std::stoll(line[2]), width = std::stoll(line[3]);
    if (line[4] == "0" || line[5] == "0") {
      // Pillow refuses such a size.
      EXPECT_THAT(processor->TargetSize(height, width),
                  StatusIs(kInvalid, HasSubstr("too elongated")));
      ++elongated;
      continue;
    }
    EXPECT_EQ(Target(processor, height, width), line[4] + "x" + line[5])
        << line[2] << "x" << line[3] << " to " << line[0] << ", " << line[1];
  }
  EXPECT_GT(elongated, 0);
}

TEST(DetrImageProcessorTest, NormalizesToTheBitAsTransformers) {
  const auto lines = GoldenLines("normalized.txt");
  ASSERT_FALSE(lines.empty());
  for (const auto& line : lines) {
    const std::string config =
        (line[0] == "-" ? R"({"do_rescale": false, )"
                        : R"({"rescale_factor": )" + line[0] + ", ") +
        (line[1] == "-" ? R"("do_normalize": false})"
                        : R"("image_mean": [)" + line[1] +
                              R"(], "image_std": [)" + line[2] + "]}");
    ASSERT_OK_AND_ASSIGN(const DetrImageProcessor processor, Parse(config));
    EXPECT_EQ(Crc(&processor.table(), sizeof(PixelTable)), line[3]) << config;
  }
}

TEST(DetrImageProcessorTest, HasTransformersDefaultsWithoutAFile) {
  const TempFolder folder;
  ASSERT_OK_AND_ASSIGN(const auto processor,
                       LoadImageProcessor(folder.path().string(), "detr"));
  EXPECT_EQ(Target(*processor, 480, 640), "800x1066");
  EXPECT_EQ(Crc(&processor->table(), sizeof(PixelTable)),
            GoldenLines("normalized.txt")[0][3]);
}

TEST(DetrImageProcessorTest, ReadsThePublishedFile) {
  const TempFolder folder;
  // facebook/detr-resnet-50's, as published.
  folder.WriteFile("preprocessor_config.json", R"({
    "do_normalize": true, "do_resize": true,
    "feature_extractor_type": "DetrFeatureExtractor", "format": "coco_detection",
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    "max_size": 1333, "size": 800})");
  ASSERT_OK_AND_ASSIGN(const auto processor,
                       LoadImageProcessor(folder.path().string(), "detr"));
  EXPECT_EQ(Target(*processor, 480, 640), "800x1066");
  EXPECT_EQ(Target(*processor, 427, 1281), "444x1333");
}

TEST(DetrImageProcessorTest, KnowsEveryFormOfSize) {
  EXPECT_EQ(Target(Parse(R"({"size": {"height": 256, "width": 320}})"), 10, 99),
            "256x320");
  EXPECT_EQ(Target(Parse(R"({"size": {"max_height": 100, "max_width": 100}})"),
                   50, 200),
            "25x100");
  EXPECT_EQ(Target(Parse(R"({"size": 100})"), 50, 200), "100x400");
  EXPECT_EQ(Target(Parse(R"({"size": 100, "max_size": 200})"), 50, 200),
            "50x200");
  EXPECT_EQ(Target(Parse(R"({"do_resize": false})"), 50, 200), "50x200");
}

TEST(DetrImageProcessorTest, RefusesWhatItDoesNotKnowByName) {
  const auto unimplemented = [](const std::string& text, const char* what) {
    EXPECT_THAT(Parse(text), StatusIs(absl::StatusCode::kUnimplemented,
                                      AllOf(HasSubstr("preprocessor_config"),
                                            HasSubstr(what))));
  };
  unimplemented(R"({"image_processor_type": "YolosImageProcessor"})",
                "'image_processor_type' must be 'DetrImageProcessor', is "
                "'YolosImageProcessor'");
  unimplemented(R"({"feature_extractor_type": "ViTFeatureExtractor"})",
                "ViTFeatureExtractor");
  unimplemented(R"({"pad_size": {"height": 64, "width": 64}})", "'pad_size'");
  EXPECT_OK(Parse(R"({"image_processor_type": "DetrImageProcessorFast"})"));
  EXPECT_OK(Parse(R"({"image_processor_type": "DetrImageProcessorPil"})"));
  EXPECT_OK(Parse(R"({"do_pad": false, "pad_size": {"height": 64}})"));
  EXPECT_OK(Parse(R"({"do_pad": true, "pad_size": null})"));
}

TEST(DetrImageProcessorTest, NamesTheKeyThatIsWrong) {
  const auto refused = [](const std::string& text, const char* what) {
    EXPECT_THAT(Parse(text), StatusIs(kInvalid, HasSubstr(what))) << text;
  };
  refused("[]", "must be a JSON object, is JSON array");
  refused(R"({"size": 0})", "'size' must be an integer from 1 to 8192, is 0");
  refused(R"({"size": "large"})", "is 'large'");
  refused(R"({"size": {"shortest_edge": 800}})", "longest_edge");
  refused(R"({"size": {"height": 100000, "width": 2}})",
          "'size': 'height' must be an integer from 1 to 8192, is 100000");
  refused(R"({"image_mean": [0.5, 0.5]})",
          "'image_mean' must have 3 values (red, green, blue), has 2");
  refused(R"({"image_std": [0.5, 0, 0.5]})",
          "'image_std' must be a number from 1e-06 to 1e+06, is 0");
  refused(R"({"rescale_factor": 0})", "'rescale_factor'");
  refused(R"({"do_resize": 1})", "'do_resize'");
  refused(R"({"resample": 6})", "'resample' must be an integer from 0 to 5");
}

// Pillow's numbers of its filters.
TEST(DetrImageProcessorTest, ResizesByTheFilterThatTheFileNames) {
  for (int resample = 0; resample < image::kNumResamples; ++resample) {
    ASSERT_OK_AND_ASSIGN(
        const DetrImageProcessor processor,
        Parse(R"({"size": {"height": 20, "width": 30}, "resample": )" +
              std::to_string(resample) + "}"));
    ASSERT_OK_AND_ASSIGN(const PreparedPicture prepared,
                         processor.Prepare(Noise(31, 47)));
    ASSERT_OK_AND_ASSIGN(const image::Rgb8 wanted,
                         image::Resize(Noise(31, 47), 20, 30,
                                       static_cast<image::Resample>(resample)));
    EXPECT_EQ(Crc(prepared.rgb), Crc(wanted)) << resample;
  }
}

TEST(DetrImageProcessorTest, LetsNoPictureGrowBeyondTheLimits) {
  constexpr auto kOver = absl::StatusCode::kResourceExhausted;
  ASSERT_OK_AND_ASSIGN(const DetrImageProcessor as_it_is,
                       Parse(R"({"do_resize": false})"));
  EXPECT_THAT(as_it_is.TargetSize(8193, 1),
              StatusIs(kOver, HasSubstr("1x8193")));
  EXPECT_THAT(as_it_is.TargetSize(5000, 5000),
              StatusIs(kOver, HasSubstr("16000000 in all")));
  EXPECT_THAT(as_it_is.TargetSize(0, 5), StatusIs(kInvalid));
  EXPECT_THAT(as_it_is.Prepare(image::Rgb8()), StatusIs(kInvalid));
}

TEST(DetrImageProcessorTest, ResizesAndKeepsTheOriginalSize) {
  ASSERT_OK_AND_ASSIGN(
      const DetrImageProcessor processor,
      Parse(R"({"size": {"shortest_edge": 20, "longest_edge": 100}})"));
  ASSERT_OK_AND_ASSIGN(const PreparedPicture prepared,
                       processor.Prepare(Noise(31, 47)));
  EXPECT_EQ(prepared.height(), 20);
  EXPECT_EQ(prepared.width(), 30);
  EXPECT_EQ(prepared.original.height, 31);
  EXPECT_EQ(prepared.original.width, 47);
  ASSERT_OK_AND_ASSIGN(const image::Rgb8 resized,
                       image::Resize(Noise(31, 47), 20, 30));
  EXPECT_EQ(Crc(prepared.rgb), Crc(resized));
  ASSERT_OK_AND_ASSIGN(const int64_t bytes, processor.PrepareBytes(31, 47));
  EXPECT_GE(bytes, 20 * 30 * 3);
}

TEST(DetrImageProcessorTest, KeepsAPictureThatHasTheSizeAlready) {
  ASSERT_OK_AND_ASSIGN(
      const DetrImageProcessor processor,
      Parse(R"({"size": {"shortest_edge": 20, "longest_edge": 100}})"));
  image::Rgb8 picture = Noise(20, 47);
  const uint8_t* const pixels = picture.data();
  ASSERT_OK_AND_ASSIGN(const PreparedPicture prepared,
                       processor.Prepare(std::move(picture)));
  EXPECT_EQ(prepared.rgb.data(), pixels);
  ASSERT_OK_AND_ASSIGN(const int64_t bytes, processor.PrepareBytes(20, 47));
  EXPECT_EQ(bytes, 0);
}

// transformers, tests/models/detr/test_image_processing_detr.py.
TEST(DetrImageProcessorTest, GivesThePublishedValuesForTheTwoCats) {
  const char* shared = std::getenv("OUNCE_SHARED_DATA");
  const std::string path =
      std::string(shared == nullptr ? "../shared/data" : shared) +
      "/detr/000000039769.png";
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << path << " is absent; OUNCE_SHARED_DATA names its folder";
  }
  const std::string bytes = ReadFileOrDie(path);
  ASSERT_EQ(bytes.size(), 694'498u);
  ASSERT_EQ(Crc(bytes.data(), bytes.size()), "c752ce55");
  ASSERT_OK_AND_ASSIGN(image::Rgb8 picture, image::Decode(bytes));
  const DetrImageProcessor processor;
  ASSERT_OK_AND_ASSIGN(const PreparedPicture prepared,
                       processor.Prepare(std::move(picture)));
  EXPECT_EQ(prepared.height(), 800);
  EXPECT_EQ(prepared.width(), 1066);
  EXPECT_EQ(prepared.original.height, 480);
  EXPECT_EQ(prepared.original.width, 640);
  const float wanted[] = {0.2796f, 0.3138f, 0.3481f};
  for (int x = 0; x < 3; ++x) {
    EXPECT_NEAR(processor.table().values[0][prepared.rgb.row(0)[x * 3]],
                wanted[x], 1e-4);
  }
  // All of Pillow's bytes, by its Image.resize((1066, 800), BILINEAR).
  EXPECT_EQ(Crc(prepared.rgb), "f40f3457");
}

}  // namespace
}  // namespace ounce::model
