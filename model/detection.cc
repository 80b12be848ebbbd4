#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "model/detector.h"

namespace ounce::model {
namespace {

struct Best {
  int64_t label_id = -1;  // -1: none
  float score = 0;
};

// The most probable of the first `num_labels` of a softmax over one more. One
// NaN makes every probability NaN, which is larger than nothing.
Best BestLabel(const float* logits, int64_t num_labels) {
  const float largest = *std::max_element(logits, logits + num_labels + 1);
  float sum = 0;
  for (int64_t i = 0; i <= num_labels; ++i)
    sum += std::exp(logits[i] - largest);
  Best best;
  for (int64_t i = 0; i < num_labels; ++i) {
    const float score = std::exp(logits[i] - largest) / sum;
    if (score > best.score) best = {i, score};
  }
  return best;
}

}  // namespace

std::vector<Detection> PostProcess(const quant::ConstMatrix& logits,
                                   const quant::ConstMatrix& boxes,
                                   const PictureSize& original, float threshold,
                                   int64_t max_detections) {
  OUNCE_CHECK(logits.rows == boxes.rows && boxes.cols == 4 && logits.cols >= 1,
              "logits and boxes of different shapes");
  const float width = static_cast<float>(original.width);
  const float height = static_cast<float>(original.height);
  std::vector<Detection> detections;
  for (int64_t row = 0; row < logits.rows; ++row) {
    const Best best = BestLabel(logits.row(row), logits.cols - 1);
    if (best.label_id < 0 || !(best.score > threshold)) continue;
    const float* box = boxes.row(row);
    const float corners[4] = {
        (box[0] - 0.5f * box[2]) * width, (box[1] - 0.5f * box[3]) * height,
        (box[0] + 0.5f * box[2]) * width, (box[1] + 0.5f * box[3]) * height};
    // A box that is no number lies nowhere.
    if (std::any_of(corners, corners + 4,
                    [](float corner) { return std::isnan(corner); })) {
      continue;
    }
    detections.push_back({.label_id = best.label_id,
                          .score = best.score,
                          .x_min = std::clamp(corners[0], 0.0f, width),
                          .y_min = std::clamp(corners[1], 0.0f, height),
                          .x_max = std::clamp(corners[2], 0.0f, width),
                          .y_max = std::clamp(corners[3], 0.0f, height)});
  }
  std::stable_sort(
      detections.begin(), detections.end(),
      [](const Detection& a, const Detection& b) { return a.score > b.score; });
  const auto most = static_cast<size_t>(std::max<int64_t>(max_detections, 0));
  if (detections.size() > most) detections.resize(most);
  return detections;
}

}  // namespace ounce::model
