#include "client/label_layout.h"

#include <algorithm>
#include <limits>

namespace ounce::client {
namespace {

// A place that might do; the lower the price, the more natural it looks.
struct Candidate {
  double left = 0;
  double top = 0;
  double price = 0;
};

std::vector<Candidate> Candidates(const Label& label) {
  const Rectangle& frame = label.frame;
  struct Row {
    double top;
    double price;
  };
  const double height = label.height;
  const Row rows[] = {
      {frame.top - height, 0},      {frame.top, 0.1},
      {frame.bottom, 0.2},          {frame.bottom - height, 0.25},
      {frame.top - 2 * height, .4}, {frame.top + height, 0.45},
      {frame.bottom + height, .5},  {frame.bottom - 2 * height, 0.55},
      {frame.top - 3 * height, .7}, {frame.top + 2 * height, 0.75},
  };
  constexpr int kSteps = 4;  // from the frame's left end to its right one
  std::vector<Candidate> candidates;
  for (const Row& row : rows) {
    for (int step = 0; step <= kSteps; ++step) {
      candidates.push_back(
          {frame.left + (frame.width() - label.width) * step / kSteps, row.top,
           row.price + 0.05 * step});
    }
    // Beside the frame, as far as it still touches.
    candidates.push_back({frame.left - label.width, row.top, row.price + 0.35});
    candidates.push_back({frame.right, row.top, row.price + 0.35});
  }
  return candidates;
}

}  // namespace

double OverlapArea(const Rectangle& a, const Rectangle& b) {
  const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
  const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  return width > 0 && height > 0 ? width * height : 0;
}

std::vector<Rectangle> PlaceLabels(const std::vector<Label>& labels,
                                   double picture_width,
                                   double picture_height) {
  // Hiding a whole label, or a whole small object, costs far more than any
  // place does.
  constexpr double kLabelHidden = 20;
  constexpr double kObjectHidden = 2;
  std::vector<Rectangle> placed;
  for (size_t i = 0; i < labels.size(); ++i) {
    const double width = std::min(labels[i].width, picture_width);
    const double height = std::min(labels[i].height, picture_height);
    const double area = std::max(1e-9, width * height);
    Rectangle best;
    double best_price = std::numeric_limits<double>::infinity();
    for (const Candidate& candidate : Candidates(labels[i])) {
      const double left =
          std::clamp(candidate.left, 0.0, picture_width - width);
      const double top =
          std::clamp(candidate.top, 0.0, picture_height - height);
      const Rectangle place = {left, top, left + width, top + height};
      double price = candidate.price;
      // Having been pushed in from outside, up or down, it is no longer where
      // its row says.
      if (top != candidate.top) price += 0.5;
      for (const Rectangle& other : placed) {
        price += kLabelHidden * OverlapArea(place, other) / area;
      }
      for (size_t j = 0; j < labels.size() && price < best_price; ++j) {
        const Rectangle& frame = labels[j].frame;
        const double covered = OverlapArea(place, frame) /
                               std::max(1e-9, frame.width() * frame.height());
        price += kObjectHidden * covered;
      }
      if (price < best_price) {
        best_price = price;
        best = place;
      }
    }
    placed.push_back(best);
  }
  return placed;
}

}  // namespace ounce::client
