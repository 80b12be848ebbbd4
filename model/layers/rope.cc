#include "model/layers/rope.h"

#include <cmath>

namespace ounce::model {

InterleavedRope::InterleavedRope(int64_t rotary_dim) {
  for (int64_t i = 0; i < rotary_dim; i += 2) {
    const float exponent =
        static_cast<float>(i) / static_cast<float>(rotary_dim);
    frequencies_.push_back(1.0f / std::pow(10000.0f, exponent));
  }
}

void InterleavedRope::Angles(int64_t position, float* angles) const {
  for (size_t j = 0; j < frequencies_.size(); ++j) {
    const float angle = static_cast<float>(position) * frequencies_[j];
    angles[2 * j] = std::cos(angle);
    angles[2 * j + 1] = std::sin(angle);
  }
}

}  // namespace ounce::model
