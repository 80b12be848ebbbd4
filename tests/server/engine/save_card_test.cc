#include "server/engine/save_card.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

std::string NameOfPath(const std::string& path) {
  ModelInfo info;
  info.name = "served";
  info.path = path;
  return CardName(info);
}

TEST(SaveCardTest, CallsAModelAsItsCheckpointIsCalled) {
  EXPECT_EQ(NameOfPath("Salesforce/codegen-350M-mono"), "codegen-350M-mono");
  EXPECT_EQ(NameOfPath("Salesforce/codegen-350M-mono@main"),
            "codegen-350M-mono");
  EXPECT_EQ(NameOfPath("/models/b@2/tiny/"), "tiny");
  EXPECT_EQ(NameOfPath("/models/tiny.gguf"), "tiny.gguf");
  for (const char* none : {"", "/", ".", ".."}) {
    EXPECT_EQ(NameOfPath(none), "served") << none;
  }
}

TEST(SaveCardTest, SaysNothingOfWhatWasNotMeasured) {
  EXPECT_THAT(QualitySections(ModelInfo()), IsEmpty());
}

TEST(SaveCardTest, TellsOfATextHowItWasMeasured) {
  ModelInfo info;
  info.path = "org/code";
  info.plan = "lm_head=keep linear";
  TextQuality& quality = info.quality.emplace();
  quality.window = 1024;
  quality.stride = 512;
  quality.tokens = 70'000;
  quality.counted_tokens = 69'999;
  quality.perplexity = 12.34567;
  quality.bits_per_byte = 0.98765;
  const auto sections = QualitySections(info);
  ASSERT_THAT(sections, SizeIs(1));
  EXPECT_EQ(sections[0].heading, "Quality");
  EXPECT_THAT(
      sections[0].markdown,
      AllOf(HasSubstr("| Text | not named |\n"),
            HasSubstr("| Window and stride, tokens | 1024 and 512 |\n"),
            HasSubstr("| Tokens, and of them counted | 70000, 69999 |\n"),
            HasSubstr("| Perplexity | 12.3457 |\n"),
            HasSubstr("\nounce load code CHECKPOINT --plan 'lm_head=keep "
                      "linear'\nounce evaluate code --text FILE --window 1024 "
                      "--stride 512\n"),
            Not(HasSubstr("KL")), Not(HasSubstr("--floats"))));
  quality.text_name = "a|b <c> `d`";
  quality.floats = {.mean_kl_divergence = 0.012345,
                    .top1_agreement = 0.9876,
                    .float_perplexity = 12};
  EXPECT_THAT(QualitySections(info)[0].markdown,
              AllOf(HasSubstr("| Text | a\\|b &lt;c> \\`d\\` |\n"),
                    HasSubstr("nats a token | 0.0123 |\n"),
                    HasSubstr("| Same token most likely | 98.76% |\n"),
                    HasSubstr("floats | 12.0000 |\n"),
                    HasSubstr("--stride 512 --floats\n")));
}

TEST(SaveCardTest, TellsOfPicturesWhatWasFound) {
  ModelInfo info;
  info.name = "detr";
  DetectionQuality& quality = info.detection.emplace();
  quality.pictures = 7;
  quality.coco.emplace().ap = 0.5;
  EXPECT_THAT(QualitySections(info)[0].markdown,
              AllOf(HasSubstr("| Pictures | 7 |\n"),
                    HasSubstr("0.50 to 0.95 | 0.5000 |\n"),
                    HasSubstr("--pictures DIR --annotations FILE\n"),
                    Not(HasSubstr("drift"))));
  quality.coco.reset();
  quality.float_detections = 10;
  quality.matched = 9;
  quality.mean_box_drift = 1.234;
  EXPECT_THAT(QualitySections(info)[0].markdown,
              AllOf(HasSubstr("| Of them found too | 9 |\n"),
                    HasSubstr("pixels | 1.23 |\n"),
                    HasSubstr("--pictures DIR\n"), Not(HasSubstr("COCO"))));
}

}  // namespace
}  // namespace ounce::server
