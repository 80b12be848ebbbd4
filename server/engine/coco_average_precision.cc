#include "server/engine/coco_average_precision.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <map>
#include <utility>

namespace ounce::server {
namespace {

constexpr size_t kMaxDetections = 100;
constexpr int kThresholds = 10;
constexpr int kRecalls = 101;

// As numpy.linspace has them, to the bit: so equal ones are equal.
double Threshold(int i) {
  return i == kThresholds - 1 ? 0.95 : 0.5 + i * ((0.95 - 0.5) / 9);
}
double Recall(int i) { return i == kRecalls - 1 ? 1 : i * 0.01; }

struct AreaRange {
  double min;
  double max;
  bool has(double area) const { return area >= min && area <= max; }
};
constexpr AreaRange kAll = {0, 1e10};
constexpr AreaRange kSmall = {0, 32 * 32};
constexpr AreaRange kMedium = {32 * 32, 96 * 96};
constexpr AreaRange kLarge = {96 * 96, 1e10};

double Area(const CocoBox& box) { return box.width * box.height; }

double Overlap(const CocoBox& detection, const CocoObject& object) {
  const CocoBox& box = object.box;
  const double width =
      std::min(detection.x + detection.width, box.x + box.width) -
      std::max(detection.x, box.x);
  const double height =
      std::min(detection.y + detection.height, box.y + box.height) -
      std::max(detection.y, box.y);
  if (width <= 0 || height <= 0) return 0;
  const double both = width * height;
  return both /
         (object.crowd ? Area(detection) : Area(detection) + Area(box) - both);
}

// What is in one picture of one category, of which there is something.
struct Cell {
  size_t picture;
  std::vector<const CocoObject*> objects = {};
  std::vector<const CocoDetection*> detections = {};  // best first
};

// What became of a detection at one threshold.
struct Outcome {
  double score;
  bool right;
  bool counts;
};

// Of one category.
class Matches {
 public:
  explicit Matches(std::vector<Cell> cells) : cells_(std::move(cells)) {}

  // Objects of this size that are no crowds.
  int64_t NumObjects(const AreaRange& range) const {
    int64_t count = 0;
    for (const Cell& cell : cells_) {
      for (const CocoObject* object : cell.objects) {
        count += Counts(*object, range) ? 1 : 0;
      }
    }
    return count;
  }

  // Of all pictures, best first.
  std::vector<Outcome> At(double threshold, const AreaRange& range) const {
    std::vector<Outcome> outcomes;
    for (const Cell& cell : cells_) Match(cell, threshold, range, &outcomes);
    std::stable_sort(
        outcomes.begin(), outcomes.end(),
        [](const Outcome& a, const Outcome& b) { return a.score > b.score; });
    return outcomes;
  }

 private:
  static bool Counts(const CocoObject& object, const AreaRange& range) {
    return !object.crowd && range.has(object.area);
  }

  static void Match(const Cell& cell, double threshold, const AreaRange& range,
                    std::vector<Outcome>* outcomes) {
    std::vector<const CocoObject*> objects = cell.objects;
    const auto first_ignored = std::stable_partition(
        objects.begin(), objects.end(),
        [&](const CocoObject* object) { return Counts(*object, range); });
    const size_t num_counted = first_ignored - objects.begin();
    std::vector<bool> taken(objects.size());
    for (const CocoDetection* detection : cell.detections) {
      constexpr size_t kNone = std::numeric_limits<size_t>::max();
      size_t match = kNone;
      double best = std::min(threshold, 1 - 1e-10);
      for (size_t i = 0; i < objects.size(); ++i) {
        if (taken[i] && !objects[i]->crowd) continue;
        if (match < num_counted && i >= num_counted) break;
        const double overlap = Overlap(detection->box, *objects[i]);
        if (overlap < best) continue;
        best = overlap;
        match = i;
      }
      Outcome& outcome =
          outcomes->emplace_back(Outcome{detection->score, false, true});
      if (match == kNone) {
        outcome.counts = range.has(Area(detection->box));
        continue;
      }
      taken[match] = true;
      outcome.right = true;
      outcome.counts = match < num_counted;
    }
  }

  std::vector<Cell> cells_;
};

// Mean precision over the recalls.
double AveragePrecision(const std::vector<Outcome>& outcomes,
                        int64_t num_objects) {
  std::vector<double> recalls, precisions;
  int64_t right = 0, wrong = 0;
  for (const Outcome& outcome : outcomes) {
    if (outcome.counts) ++(outcome.right ? right : wrong);
    recalls.push_back(static_cast<double>(right) /
                      static_cast<double>(num_objects));
    precisions.push_back(static_cast<double>(right) /
                         (static_cast<double>(right + wrong) +
                          std::numeric_limits<double>::epsilon()));
  }
  for (size_t i = precisions.size(); i-- > 1;) {
    precisions[i - 1] = std::max(precisions[i - 1], precisions[i]);
  }
  double sum = 0;
  for (int i = 0; i < kRecalls; ++i) {
    const auto at = std::lower_bound(recalls.begin(), recalls.end(), Recall(i));
    if (at != recalls.end()) sum += precisions[at - recalls.begin()];
  }
  return sum / kRecalls;
}

// Over the categories with objects of this size.
double Mean(const std::vector<Matches>& categories, const AreaRange& range,
            int first_threshold, int num_thresholds) {
  double sum = 0;
  int64_t count = 0;
  for (const Matches& category : categories) {
    const int64_t num_objects = category.NumObjects(range);
    if (num_objects == 0) continue;
    for (int i = 0; i < num_thresholds; ++i) {
      sum += AveragePrecision(
          category.At(Threshold(first_threshold + i), range), num_objects);
      ++count;
    }
  }
  return count > 0 ? sum / static_cast<double>(count) : -1;
}

}  // namespace

CocoAveragePrecision ComputeCocoAveragePrecision(
    absl::Span<const CocoPicture> pictures) {
  std::map<int64_t, std::vector<Cell>> by_category;
  for (size_t i = 0; i < pictures.size(); ++i) {
    const auto cell_of = [&](int64_t category) -> Cell& {
      std::vector<Cell>& cells = by_category[category];
      if (cells.empty() || cells.back().picture != i) cells.push_back({i});
      return cells.back();
    };
    for (const CocoObject& object : pictures[i].objects) {
      cell_of(object.category).objects.push_back(&object);
    }
    for (const CocoDetection& detection : pictures[i].detections) {
      cell_of(detection.category).detections.push_back(&detection);
    }
  }
  std::vector<Matches> categories;
  for (auto& [category, cells] : by_category) {
    for (Cell& cell : cells) {
      std::stable_sort(cell.detections.begin(), cell.detections.end(),
                       [](const CocoDetection* a, const CocoDetection* b) {
                         return a->score > b->score;
                       });
      if (cell.detections.size() > kMaxDetections) {
        cell.detections.resize(kMaxDetections);
      }
    }
    categories.emplace_back(std::move(cells));
  }
  return {.ap = Mean(categories, kAll, 0, kThresholds),
          .ap50 = Mean(categories, kAll, 0, 1),
          .ap75 = Mean(categories, kAll, 5, 1),
          .ap_small = Mean(categories, kSmall, 0, kThresholds),
          .ap_medium = Mean(categories, kMedium, 0, kThresholds),
          .ap_large = Mean(categories, kLarge, 0, kThresholds)};
}

}  // namespace ounce::server
