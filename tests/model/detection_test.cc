// PostProcess of model/detector.h.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/detector.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Queries of one picture.
struct Queries {
  std::vector<std::vector<float>> logits;
  std::vector<std::vector<float>> boxes;

  std::vector<Detection> PostProcess(const PictureSize& original,
                                     float threshold,
                                     int64_t max_detections = 100) const {
    std::vector<float> flat_logits, flat_boxes;
    for (const auto& row : logits) {
      flat_logits.insert(flat_logits.end(), row.begin(), row.end());
    }
    for (const auto& row : boxes) {
      flat_boxes.insert(flat_boxes.end(), row.begin(), row.end());
    }
    const int64_t rows = logits.size();
    const int64_t cols = rows == 0 ? 3 : flat_logits.size() / rows;
    return model::PostProcess({flat_logits.data(), rows, cols, cols},
                              {flat_boxes.data(), rows, 4, 4}, original,
                              threshold, max_detections);
  }
};

std::vector<int64_t> LabelsOf(const std::vector<Detection>& detections) {
  std::vector<int64_t> labels;
  for (const Detection& detection : detections) {
    labels.push_back(detection.label_id);
  }
  return labels;
}

TEST(PostProcessTest, FindsWhatTransformersFinds) {
  std::ifstream file("tests/golden/detr_layers/expected.json");
  ASSERT_TRUE(file.good()) << "run tests from the source tree's root";
  const auto cases = nlohmann::json::parse(file)["post_process"];
  ASSERT_EQ(cases.size(), 6u);
  for (const auto& expected : cases) {
    const Queries queries = {expected["logits"], expected["boxes"]};
    const PictureSize original = {expected["original"][0],
                                  expected["original"][1]};
    const auto found = queries.PostProcess(original, expected["threshold"]);
    // Theirs in our order, and within the picture.
    const std::vector<float> scores = expected["scores"];
    std::vector<size_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    ASSERT_EQ(found.size(), order.size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].label_id, expected["labels"][order[i]]);
      EXPECT_NEAR(found[i].score, scores[order[i]], 1e-6);
      const std::vector<float> corners = expected["corners"][order[i]];
      const float width = static_cast<float>(original.width);
      const float height = static_cast<float>(original.height);
      EXPECT_FLOAT_EQ(found[i].x_min, std::clamp(corners[0], 0.0f, width));
      EXPECT_FLOAT_EQ(found[i].y_min, std::clamp(corners[1], 0.0f, height));
      EXPECT_FLOAT_EQ(found[i].x_max, std::clamp(corners[2], 0.0f, width));
      EXPECT_FLOAT_EQ(found[i].y_max, std::clamp(corners[3], 0.0f, height));
    }
  }
}

TEST(PostProcessTest, SortsBestFirstAndEqualOnesByQuery) {
  const std::vector<float> box = {0.5f, 0.5f, 0.2f, 0.2f};
  const Queries queries = {
      {{2, 0, 0}, {0, 3, 0}, {9, 0, 0}, {3, 0, 0}, {0, 0, 9}},
      {box, box, box, box, box}};
  const auto found = queries.PostProcess({100, 100}, 0.3f);
  EXPECT_THAT(LabelsOf(found), ::testing::ElementsAre(0, 1, 0, 0));
  EXPECT_EQ(found[1].score, found[2].score);
  EXPECT_GT(found[2].score, found[3].score);
}

TEST(PostProcessTest, ReturnsAtMostAsManyAsAskedFor) {
  const std::vector<float> box = {0.5f, 0.5f, 0.2f, 0.2f};
  const Queries queries = {{{2, 0}, {5, 0}, {4, 0}}, {box, box, box}};
  EXPECT_EQ(queries.PostProcess({9, 9}, 0.1f, 3).size(), 3u);
  const auto two = queries.PostProcess({9, 9}, 0.1f, 2);
  ASSERT_EQ(two.size(), 2u);
  EXPECT_NEAR(two[1].score, 1 / (1 + std::exp(-4.0)), 1e-6);
  EXPECT_TRUE(queries.PostProcess({9, 9}, 0.1f, 0).empty());
  EXPECT_TRUE(queries.PostProcess({9, 9}, 0.1f, -1).empty());
}

TEST(PostProcessTest, AScoreMustBeAboveTheThreshold) {
  const Queries queries = {{{0, 0}}, {{0.5f, 0.5f, 1, 1}}};  // one half each
  EXPECT_TRUE(queries.PostProcess({9, 9}, 0.5f).empty());
  EXPECT_EQ(queries.PostProcess({9, 9}, 0.49f).size(), 1u);
  EXPECT_TRUE(queries.PostProcess({9, 9}, kNan).empty());
}

TEST(PostProcessTest, BoxesLieWithinThePicture) {
  const Queries queries = {
      {{9, 0}, {8, 0}, {7, 0}},
      {{0.5f, 0.5f, 3, 3}, {1, 0, 0.5f, 0.5f}, {0.5f, 0.5f, kInfinity, 1}}};
  const auto found = queries.PostProcess({30, 20}, 0.5f);
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].x_min, 0);
  EXPECT_EQ(found[0].y_min, 0);
  EXPECT_EQ(found[0].x_max, 20);
  EXPECT_EQ(found[0].y_max, 30);
  EXPECT_EQ(found[1].x_min, 15);
  EXPECT_EQ(found[1].y_min, 0);
  EXPECT_EQ(found[1].x_max, 20);
  EXPECT_EQ(found[1].y_max, 7.5f);
  EXPECT_EQ(found[2].x_min, 0);
  EXPECT_EQ(found[2].x_max, 20);
}

TEST(PostProcessTest, WhatIsNoNumberIsNoDetection) {
  const std::vector<float> box = {0.5f, 0.5f, 0.2f, 0.2f};
  const Queries queries = {
      {{kNan, 0, 0},
       {9, kNan, 0},
       {9, 0, kNan},
       {kInfinity, 0, 0},
       {-kInfinity, -kInfinity, -kInfinity},
       {kNan, kNan, kNan},
       {9, 0, 0},
       {0, 9, -kInfinity}},
      {box, box, box, box, box, box, {0.5f, kNan, 0.1f, 0.1f}, box}};
  for (float threshold : {-1.0f, 0.0f, 0.5f}) {
    const auto found = queries.PostProcess({10, 10}, threshold);
    EXPECT_THAT(LabelsOf(found), ::testing::ElementsAre(1));
  }
}

TEST(PostProcessTest, NothingComesOfNoQueries) {
  EXPECT_TRUE(Queries().PostProcess({10, 10}, 0.5f).empty());
}

}  // namespace
}  // namespace ounce::model
