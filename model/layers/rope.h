// Rotary position embedding: turns pairs of the first rotary_dim elements of a
// head, pair j by the angle position * frequency[j]; what is behind them stays.
// Pairings:
//   kInterleaved  (x[2j], x[2j + 1]), as in GPT-J and CodeGen
//   kHalves       (x[j], x[j + rotary_dim / 2]), Llama's "rotate half"
//
// Frequencies are what transformers' modeling_rope_utils.py computes, in
// float32 and in its order of operations: `default` is RopeFrequencies(),
// `linear`, `llama3` and `yarn` are changes of these. `dynamic` has no
// function: up to max_position_embeddings its frequencies are the default ones,
// and beyond, the angle of a position would depend on the longest sequence of
// the batch, so a model's positions end there.
//
// Numeric error: frequencies are at most one unit in the last place off
// torch's,
//   whose powf is another; the angle of a frequency is rounded to float32 as
//   transformers does it, so that its results are met at any position.
#ifndef OUNCE_MODEL_LAYERS_ROPE_H_
#define OUNCE_MODEL_LAYERS_ROPE_H_

#include <cstdint>
#include <vector>

namespace ounce::model {

enum class RopePairing { kInterleaved, kHalves };

struct RopeSpec {
  RopePairing pairing = RopePairing::kInterleaved;
  int64_t rotary_dim = 0;          // even; 0: nothing turns
  std::vector<float> frequencies;  // [rotary_dim / 2], radians per position
  float magnitude = 1;             // turned pairs grow by this factor
};

// base^(-2j / rotary_dim) for each pair j.
std::vector<float> RopeFrequencies(int64_t rotary_dim, double base);

// `linear`: `factor` times as many positions in the same angles.
void ScaleLinear(double factor, std::vector<float>& frequencies);

// `llama3`: waves longer than original_positions / low_frequency_factor are
// stretched, those shorter than original_positions / high_frequency_factor are
// not, and between there is a slope. Requires high > low.
struct Llama3Scaling {
  double factor;
  double low_frequency_factor;
  double high_frequency_factor;
  int64_t original_positions;
};
void ScaleLlama3(const Llama3Scaling& scaling, std::vector<float>& frequencies);

// `yarn`: pairs that turn more than beta_fast times within original_positions
// stay, those that turn less than beta_slow times are stretched, and between
// there is a slope over the pairs.
struct YarnScaling {
  double factor;
  int64_t original_positions;
  double beta_fast = 32;
  double beta_slow = 1;
  bool truncate = true;  // the slope begins and ends at whole pairs
};
std::vector<float> YarnFrequencies(int64_t rotary_dim, double base,
                                   const YarnScaling& scaling);
// The magnitude that goes with it: 0.1 * mscale * ln(factor) + 1, divided by
// the same of mscale_all_dim; if one of them is 0, of mscale = 1 and undivided.
double YarnMagnitude(double factor, double mscale, double mscale_all_dim);

// Threads: const, so any.
class Rope {
 public:
  explicit Rope(RopeSpec spec);

  int64_t rotary_dim() const { return spec_.rotary_dim; }
  RopePairing pairing() const { return spec_.pairing; }

  // Writes cos and sin, times the magnitude, for each pair in turn whatever the
  // pairing: angles[2j], angles[2j + 1]; rotary_dim() floats.
  void Angles(int64_t position, float* angles) const;

 private:
  RopeSpec spec_;
};

// Turns one head, from `x` to `y` (which may be the same).
template <RopePairing kPairing>
inline void TurnPairs(const float* x, const float* angles, int64_t rotary_dim,
                      float* y) {
  constexpr bool kHalves = kPairing == RopePairing::kHalves;
  const int64_t pairs = rotary_dim / 2;
  for (int64_t j = 0; j < pairs; ++j) {
    const int64_t first = kHalves ? j : 2 * j;
    const int64_t second = kHalves ? j + pairs : 2 * j + 1;
    const float cos = angles[2 * j], sin = angles[2 * j + 1];
    const float a = x[first], b = x[second];
    y[first] = a * cos - b * sin;
    y[second] = b * cos + a * sin;
  }
}
inline void TurnPairs(RopePairing pairing, const float* x, const float* angles,
                      int64_t rotary_dim, float* y) {
  if (pairing == RopePairing::kHalves) {
    TurnPairs<RopePairing::kHalves>(x, angles, rotary_dim, y);
  } else {
    TurnPairs<RopePairing::kInterleaved>(x, angles, rotary_dim, y);
  }
}

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_ROPE_H_
