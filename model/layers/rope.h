// Rotary position embedding: turns each pair (x[2j], x[2j + 1]) of the first
// rotary_dim elements of a head by the angle position * 10000^(-2j /
// rotary_dim). The interleaved pairing, as in GPT-J and CodeGen; not Llama's
// "rotate half".
//
// Error: frequencies and angles are rounded to float32 as transformers does it,
//   so that its results are met at any position.
#ifndef OUNCE_MODEL_LAYERS_ROPE_H_
#define OUNCE_MODEL_LAYERS_ROPE_H_

#include <cstdint>
#include <vector>

namespace ounce::model {

class InterleavedRope {
 public:
  // rotary_dim even.
  explicit InterleavedRope(int64_t rotary_dim);

  int64_t rotary_dim() const { return 2 * frequencies_.size(); }

  // Writes cos and sin for each pair in turn: angles[2j], angles[2j + 1];
  // rotary_dim() floats.
  void Angles(int64_t position, float* angles) const;

 private:
  std::vector<float> frequencies_;  // radians per position, by pair
};

// Turns one head, from `x` to `y` (which may be the same), elements
// `y_stride` apart in y.
inline void TurnPairs(const float* x, const float* angles, int64_t rotary_dim,
                      int64_t y_stride, float* y) {
  for (int64_t i = 0; i < rotary_dim; i += 2) {
    const float cos = angles[i], sin = angles[i + 1];
    const float even = x[i], odd = x[i + 1];
    y[i * y_stride] = even * cos - odd * sin;
    y[(i + 1) * y_stride] = odd * cos + even * sin;
  }
}

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_ROPE_H_
