// The forward pass of DETR and what is read out of it, against transformers.

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "quant/registry.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_detector.h"

namespace ounce::model {
namespace {

using ::ounce::testing::DetectorOutputs;
using ::ounce::testing::DetectorRunner;
using ::ounce::testing::DetrGolden;
using ::ounce::testing::OpenDetrGolden;
using quant::Compute;

class DetrGoldenTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { checkpoint_ = OpenDetrGolden(GetParam()); }

  // The detector, and its goldens.
  const Detector& Load(LoadOptions options) {
    auto loaded = LoadModel(*checkpoint_, options);
    OUNCE_CHECK(loaded.ok(), loaded.status().ToString().c_str());
    loaded_ = *std::move(loaded);
    const Detector& detector = *loaded_.model->detector();
    goldens_ = ounce::testing::ReadDetrGoldens(GetParam(), detector.shape());
    return detector;
  }

  static std::vector<DetectorRunner::Picture> Pictures(
      const DetrGolden& golden) {
    std::vector<DetectorRunner::Picture> pictures;
    for (size_t i = 0; i < golden.sizes.size(); ++i) {
      pictures.push_back(DetectorRunner::Generated(
          golden.first + static_cast<int>(i), golden.sizes[i], golden.canvas));
    }
    return pictures;
  }

  std::unique_ptr<Checkpoint> checkpoint_;
  LoadedModel loaded_;
  std::vector<DetrGolden> goldens_;
};

TEST_P(DetrGoldenTest, LogitsAndBoxesAreThoseOfTransformers) {
  DetectorRunner runner(Load({}), 2);
  for (const DetrGolden& golden : goldens_) {
    const DetectorOutputs found = runner.Run(Pictures(golden));
    // 1e-4 is what users are promised.
    EXPECT_THAT(found.logits, ::testing::Pointwise(::testing::FloatNear(1e-4f),
                                                   golden.logits))
        << golden.sizes.size() << " pictures from " << golden.first;
    EXPECT_THAT(found.boxes,
                ::testing::Pointwise(::testing::FloatNear(1e-4f), golden.boxes))
        << golden.sizes.size() << " pictures from " << golden.first;
  }
}

TEST_P(DetrGoldenTest, DetectionsAreThoseOfTransformersSortedAndClipped) {
  const Detector& detector = Load({});
  DetectorRunner runner(detector, 1);
  const int64_t queries = detector.shape().num_queries;
  const auto classes = static_cast<int64_t>(detector.shape().labels.size()) + 1;
  for (const DetrGolden& golden : goldens_) {
    const DetectorOutputs outputs = runner.Run(Pictures(golden));
    for (size_t p = 0; p < golden.sizes.size(); ++p) {
      const PictureSize& size = golden.sizes[p];
      const auto found =
          PostProcess({outputs.logits.data() + p * queries * classes, queries,
                       classes, classes},
                      {outputs.boxes.data() + p * queries * 4, queries, 4, 4},
                      size, golden.threshold, queries);
      auto wanted = golden.detections[p];
      std::stable_sort(wanted.begin(), wanted.end(),
                       [](const Detection& a, const Detection& b) {
                         return a.score > b.score;
                       });
      ASSERT_EQ(found.size(), wanted.size());
      const auto clip = [](float value, int64_t extent) {
        return std::clamp(value, 0.0f, static_cast<float>(extent));
      };
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_EQ(found[i].label_id, wanted[i].label_id);
        EXPECT_NEAR(found[i].score, wanted[i].score, 1e-4);
        // 1e-4 of the picture.
        EXPECT_NEAR(found[i].x_min, clip(wanted[i].x_min, size.width), 0.01);
        EXPECT_NEAR(found[i].y_min, clip(wanted[i].y_min, size.height), 0.01);
        EXPECT_NEAR(found[i].x_max, clip(wanted[i].x_max, size.width), 0.01);
        EXPECT_NEAR(found[i].y_max, clip(wanted[i].y_max, size.height), 0.01);
      }
    }
  }
}

// Relative L2 distance of logits, and the largest of boxes.
struct Drift {
  double logits = 0;
  double boxes = 0;
};

Drift DriftOf(const DetectorOutputs& found, const DetrGolden& golden) {
  double square = 0, all = 0, mean = 0;
  for (float wanted : golden.logits) mean += wanted / golden.logits.size();
  for (size_t i = 0; i < golden.logits.size(); ++i) {
    square += std::pow(found.logits[i] - golden.logits[i], 2);
    all += std::pow(golden.logits[i] - mean, 2);
  }
  Drift drift = {.logits = std::sqrt(square / all)};
  for (size_t i = 0; i < golden.boxes.size(); ++i) {
    drift.boxes = std::max<double>(drift.boxes,
                                   std::abs(found.boxes[i] - golden.boxes[i]));
  }
  return drift;
}

// Bounds are about twice what was measured. A factor in bfloat16 is wrong by up
// to 2^-9, a code of 8 bits by up to 1/254 of its row's largest weight; sums of
// as few as four terms, as in the smallest of these networks, average little of
// it away, and softmaxes over sharp scores multiply it.
TEST_P(DetrGoldenTest, BFloat16AndIntegersStayNear) {
  const struct {
    const char* name;
    const char* plan;
    Compute compute;
    double logits;
    double boxes;
  } kCases[] = {
      {"bfloat16", "keep", Compute::kBFloat16, 0.09, 0.012},
      {"int8", "linear", Compute::kFloat32, 0.08, 0.01},
      {"int8, bfloat16", "linear", Compute::kBFloat16, 0.1, 0.012},
      {"all int8", "@convolution=linear linear", Compute::kFloat32, 0.15, 0.02},
      {"all int8, bfloat16", "@convolution=linear linear", Compute::kBFloat16,
       0.17, 0.02},
  };
  for (const auto& c : kCases) {
    LoadOptions options;
    options.plan = *ParseMethodPlan(c.plan);
    options.compute = c.compute;
    const Detector& detector = Load(options);
    EXPECT_EQ(detector.compute(), c.compute);
    DetectorRunner runner(detector, 2);
    for (const DetrGolden& golden : goldens_) {
      const Drift drift = DriftOf(runner.Run(Pictures(golden)), golden);
      EXPECT_LT(drift.logits, c.logits) << c.name;
      EXPECT_LT(drift.boxes, c.boxes) << c.name;
      EXPECT_GT(drift.logits, 1e-4) << c.name << " was not at work";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    AllCases, DetrGoldenTest,
    ::testing::ValuesIn(ounce::testing::DetrGoldenFolders()),
    [](const auto& info) {
      return info.param.substr(info.param.rfind('/') + 1);
    });

}  // namespace
}  // namespace ounce::model
