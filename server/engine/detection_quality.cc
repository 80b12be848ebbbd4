#include "server/engine/detection_quality.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/check.h"

namespace ounce::server {
namespace {

constexpr double kMinOverlap = 0.5;

struct Pair {
  size_t from;  // by index
  size_t to;
  double overlap;
};

double Area(const DetectedObject& object) {
  return (static_cast<double>(object.x_max) - object.x_min) *
         (static_cast<double>(object.y_max) - object.y_min);
}

// Intersection over union; two empty boxes have none.
double Overlap(const DetectedObject& a, const DetectedObject& b) {
  const double width = static_cast<double>(std::min(a.x_max, b.x_max)) -
                       std::max(a.x_min, b.x_min);
  const double height = static_cast<double>(std::min(a.y_max, b.y_max)) -
                        std::max(a.y_min, b.y_min);
  if (width <= 0 || height <= 0) return 0;
  return width * height / (Area(a) + Area(b) - width * height);
}

double BoxDrift(const DetectedObject& a, const DetectedObject& b) {
  return std::max({std::abs(a.x_min - b.x_min), std::abs(a.y_min - b.y_min),
                   std::abs(a.x_max - b.x_max), std::abs(a.y_max - b.y_max)});
}

std::vector<Pair> Match(const Detections& from, const Detections& to) {
  std::vector<Pair> candidates;
  for (size_t i = 0; i < from.size(); ++i) {
    for (size_t j = 0; j < to.size(); ++j) {
      if (from[i].label_id != to[j].label_id) continue;
      const double overlap = Overlap(from[i], to[j]);
      if (overlap >= kMinOverlap) candidates.push_back({i, j, overlap});
    }
  }
  std::stable_sort(
      candidates.begin(), candidates.end(),
      [](const Pair& a, const Pair& b) { return a.overlap > b.overlap; });
  std::vector<bool> from_taken(from.size());
  std::vector<bool> to_taken(to.size());
  std::vector<Pair> pairs;
  for (const Pair& pair : candidates) {
    if (from_taken[pair.from] || to_taken[pair.to]) continue;
    from_taken[pair.from] = true;
    to_taken[pair.to] = true;
    pairs.push_back(pair);
  }
  return pairs;
}

}  // namespace

Detections AboveQualityThreshold(const Detections& found) {
  Detections above;
  for (const DetectedObject& object : found) {
    if (object.score > kQualityThreshold) above.push_back(object);
  }
  return above;
}

DetectionQuality CompareDetections(absl::Span<const Detections> floats,
                                   absl::Span<const Detections> quantized) {
  OUNCE_CHECK(floats.size() == quantized.size(), "the pictures are the same");
  DetectionQuality quality;
  quality.pictures = static_cast<int64_t>(floats.size());
  double score_drift = 0;
  double box_drift = 0;
  for (size_t i = 0; i < floats.size(); ++i) {
    quality.float_detections += static_cast<int64_t>(floats[i].size());
    quality.quantized_detections += static_cast<int64_t>(quantized[i].size());
    for (const Pair& pair : Match(floats[i], quantized[i])) {
      const DetectedObject& from = floats[i][pair.from];
      const DetectedObject& to = quantized[i][pair.to];
      ++quality.matched;
      score_drift += std::abs(static_cast<double>(to.score) - from.score);
      box_drift += BoxDrift(from, to);
    }
  }
  if (quality.matched > 0) {
    const double matched = static_cast<double>(quality.matched);
    quality.mean_score_drift = score_drift / matched;
    quality.mean_box_drift = box_drift / matched;
  }
  return quality;
}

}  // namespace ounce::server
