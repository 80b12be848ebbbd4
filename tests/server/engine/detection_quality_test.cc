#include "server/engine/detection_quality.h"

#include "gtest/gtest.h"

namespace ounce::server {
namespace {

DetectedObject Object(int64_t label_id, float score, float x_min, float y_min,
                      float x_max, float y_max) {
  return {.label = "",
          .label_id = label_id,
          .score = score,
          .x_min = x_min,
          .y_min = y_min,
          .x_max = x_max,
          .y_max = y_max};
}

TEST(DetectionQualityTest, TheSameDetectionsDoNotDrift) {
  const Detections found = {Object(1, 0.9f, 0, 0, 10, 10),
                            Object(1, 0.8f, 20, 0, 30, 10)};
  const DetectionQuality quality = CompareDetections({found, {}}, {found, {}});
  EXPECT_EQ(quality.pictures, 2);
  EXPECT_EQ(quality.float_detections, 2);
  EXPECT_EQ(quality.quantized_detections, 2);
  EXPECT_EQ(quality.matched, 2);
  EXPECT_EQ(quality.mean_score_drift, 0);
  EXPECT_EQ(quality.mean_box_drift, 0);
}

TEST(DetectionQualityTest, DriftIsTheMeanOfScoresAndOfTheSideThatMovedMost) {
  const DetectionQuality quality = CompareDetections(
      {{Object(1, 0.75f, 0, 0, 10, 10)}, {Object(2, 0.75f, 0, 0, 100, 100)}},
      {{Object(1, 0.5f, 0, 0, 10, 9)}, {Object(2, 1.0f, 2, 0, 97, 100)}});
  EXPECT_EQ(quality.matched, 2);
  EXPECT_DOUBLE_EQ(quality.mean_score_drift, 0.25);
  EXPECT_DOUBLE_EQ(quality.mean_box_drift, 2);
}

TEST(DetectionQualityTest, OnlyTheSameLabelOfTheSamePictureIsAPair) {
  const Detections one = {Object(1, 0.9f, 0, 0, 10, 10)};
  const Detections other = {Object(2, 0.9f, 0, 0, 10, 10)};
  EXPECT_EQ(CompareDetections({one}, {other}).matched, 0);
  EXPECT_EQ(CompareDetections({one, {}}, {{}, one}).matched, 0);
}

TEST(DetectionQualityTest, AnOverlapOfExactlyHalfIsAPairAndLessIsNone) {
  const Detections whole = {Object(1, 0.9f, 0, 0, 10, 10)};
  EXPECT_EQ(
      CompareDetections({whole}, {{Object(1, 0.9f, 0, 0, 10, 5)}}).matched, 1);
  EXPECT_EQ(
      CompareDetections({whole}, {{Object(1, 0.9f, 0, 0, 10, 4.99f)}}).matched,
      0);
  EXPECT_EQ(
      CompareDetections({whole}, {{Object(1, 0.9f, 50, 50, 60, 60)}}).matched,
      0);
}

TEST(DetectionQualityTest, EachIsInOnePairAndTheBestOverlapGoesFirst) {
  // The first of the quantized ones overlaps both; the better fit gets it.
  const DetectionQuality quality = CompareDetections(
      {{Object(1, 0.9f, 0, 0, 10, 10), Object(1, 0.6f, 0, 0, 10, 8)}},
      {{Object(1, 0.6f, 0, 0, 10, 8)}});
  EXPECT_EQ(quality.float_detections, 2);
  EXPECT_EQ(quality.quantized_detections, 1);
  EXPECT_EQ(quality.matched, 1);
  EXPECT_EQ(quality.mean_score_drift, 0);
}

TEST(DetectionQualityTest, BoxesWithoutAnAreaMatchNothing) {
  const Detections point = {Object(1, 0.9f, 5, 5, 5, 5)};
  EXPECT_EQ(CompareDetections({point}, {point}).matched, 0);
}

}  // namespace
}  // namespace ounce::server
