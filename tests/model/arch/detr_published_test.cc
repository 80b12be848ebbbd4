// The values that transformers publishes for facebook/detr-resnet-50
// (tests/models/detr/test_modeling_detr.py). Needs its weights: runs when
// OUNCE_DETR_RESNET_50 names their folder (either revision).

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "image/decode.h"
#include "model/detector.h"
#include "model/loader/loader.h"
#include "model/processors/image_processor.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;

// As published: relative and absolute.
auto Near(float value) {
  return FloatNear(value, 2e-4f + 2e-4f * std::abs(value));
}

TEST(DetrPublishedTest, ResultsAreThosePublishedForDetrResNet50) {
  const char* folder = std::getenv("OUNCE_DETR_RESNET_50");
  if (folder == nullptr) {
    GTEST_SKIP() << "OUNCE_DETR_RESNET_50 does not name the folder of "
                    "facebook/detr-resnet-50";
  }
  const char* shared = std::getenv("OUNCE_SHARED_DATA");
  const std::filesystem::path file =
      std::filesystem::path(shared != nullptr ? shared : "../shared/data") /
      "detr/000000039769.png";
  if (!std::filesystem::exists(file)) {
    GTEST_SKIP() << file << " is absent; OUNCE_SHARED_DATA names its folder";
  }
  std::ostringstream bytes;
  bytes << std::ifstream(file, std::ios::binary).rdbuf();
  ASSERT_OK_AND_ASSIGN(image::Rgb8 picture, image::Decode(bytes.str()));
  ASSERT_OK_AND_ASSIGN(const auto processor,
                       LoadImageProcessor(folder, "detr"));
  ASSERT_OK_AND_ASSIGN(const PreparedPicture prepared,
                       processor->Prepare(std::move(picture)));
  const PictureSize size = {prepared.height(), prepared.width()};
  ASSERT_EQ(size.height, 800);
  ASSERT_EQ(size.width, 1066);

  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(folder));
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded, LoadModel(*checkpoint, {}));
  const Detector& detector = *loaded.model->detector();
  ASSERT_OK_AND_ASSIGN(
      quant::Scratch scratch,
      quant::Scratch::Create(detector.ScratchBytes({size}, 2)));
  ThreadPool pool(2);
  std::vector<float> logits(100 * 92), boxes(100 * 4);
  const PictureView view = {.rgb = prepared.rgb.data(),
                            .size = size,
                            .canvas = size,
                            .table = &processor->table()};
  detector.Forward({view}, detector.RunOn(pool, scratch),
                   {logits.data(), 100, 92, 92}, {boxes.data(), 100, 4, 4});

  const auto slice = [](const std::vector<float>& values, int64_t row,
                        int64_t cols) {
    return std::vector<float>(values.begin() + row * cols,
                              values.begin() + row * cols + 3);
  };
  EXPECT_THAT(slice(logits, 0, 92),
              ElementsAre(Near(-19.1194), Near(-0.0893), Near(-11.0154)));
  EXPECT_THAT(slice(logits, 1, 92),
              ElementsAre(Near(-17.3640), Near(-1.8035), Near(-14.0219)));
  EXPECT_THAT(slice(logits, 2, 92),
              ElementsAre(Near(-20.0461), Near(-0.5837), Near(-11.1060)));
  EXPECT_THAT(slice(boxes, 0, 4),
              ElementsAre(Near(0.4433), Near(0.5302), Near(0.8852)));
  EXPECT_THAT(slice(boxes, 1, 4),
              ElementsAre(Near(0.5494), Near(0.2517), Near(0.0529)));
  EXPECT_THAT(slice(boxes, 2, 4),
              ElementsAre(Near(0.4998), Near(0.5360), Near(0.9955)));

  // Published in the order of queries: 0.9982 0.9960 0.9955 0.9988 0.9987 of 75
  // 75 63 17 17; ours come best first.
  const auto found =
      PostProcess({logits.data(), 100, 92, 92}, {boxes.data(), 100, 4, 4},
                  prepared.original, 0.3f, 100);
  std::vector<float> scores;
  std::vector<int64_t> labels;
  for (const Detection& detection : found) {
    scores.push_back(detection.score);
    labels.push_back(detection.label_id);
  }
  EXPECT_THAT(scores, ElementsAre(Near(0.9988), Near(0.9987), Near(0.9982),
                                  Near(0.9960), Near(0.9955)));
  ASSERT_THAT(labels, ElementsAre(17, 17, 75, 75, 63));
  const Detection& remote = found[2];
  EXPECT_THAT((std::vector<float>{remote.x_min, remote.y_min, remote.x_max,
                                  remote.y_max}),
              ElementsAre(Near(40.1615), Near(70.8090), Near(175.5476),
                          Near(117.9810)));
  EXPECT_EQ(detector.shape().labels[remote.label_id], "remote");
}

}  // namespace
}  // namespace ounce::model
