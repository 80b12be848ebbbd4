#include "model/layers/rope.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace ounce::model {
namespace {

constexpr double kPi = 3.14159265358979323846;

// base^(2j / rotary_dim).
float Wave(int64_t pair, int64_t rotary_dim, double base) {
  const float exponent =
      static_cast<float>(2 * pair) / static_cast<float>(rotary_dim);
  return std::pow(static_cast<float>(base), exponent);
}

// The pair, not rounded, that turns so many times within so many positions.
double PairThatTurns(double times, int64_t rotary_dim, double base,
                     int64_t positions) {
  return (static_cast<double>(rotary_dim) *
          std::log(static_cast<double>(positions) / (times * 2 * kPi))) /
         (2 * std::log(base));
}

}  // namespace

std::vector<float> RopeFrequencies(int64_t rotary_dim, double base) {
  std::vector<float> frequencies;
  for (int64_t j = 0; j < rotary_dim / 2; ++j) {
    frequencies.push_back(1.0f / Wave(j, rotary_dim, base));
  }
  return frequencies;
}

void ScaleLinear(double factor, std::vector<float>& frequencies) {
  for (float& f : frequencies) f /= static_cast<float>(factor);
}

void ScaleLlama3(const Llama3Scaling& scaling,
                 std::vector<float>& frequencies) {
  const auto positions = static_cast<double>(scaling.original_positions);
  const auto longest =
      static_cast<float>(positions / scaling.low_frequency_factor);
  const auto shortest =
      static_cast<float>(positions / scaling.high_frequency_factor);
  const auto factor = static_cast<float>(scaling.factor);
  const auto low = static_cast<float>(scaling.low_frequency_factor);
  const auto span = static_cast<float>(scaling.high_frequency_factor -
                                       scaling.low_frequency_factor);
  for (float& f : frequencies) {
    // torch divides a number by a tensor as number * (1 / tensor).
    const float wave = (1.0f / f) * static_cast<float>(2 * kPi);
    if (wave > longest) {
      f /= factor;
    } else if (wave >= shortest) {
      const float smooth =
          ((1.0f / wave) * static_cast<float>(positions) - low) / span;
      f = (1.0f - smooth) * f / factor + smooth * f;
    }
  }
}

std::vector<float> YarnFrequencies(int64_t rotary_dim, double base,
                                   const YarnScaling& scaling) {
  double low = PairThatTurns(scaling.beta_fast, rotary_dim, base,
                             scaling.original_positions);
  double high = PairThatTurns(scaling.beta_slow, rotary_dim, base,
                              scaling.original_positions);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rotary_dim - 1));
  if (low == high) high += 0.001;

  std::vector<float> frequencies;
  for (int64_t j = 0; j < rotary_dim / 2; ++j) {
    const float wave = Wave(j, rotary_dim, base);
    const float kept = 1.0f / wave;
    const float stretched = 1.0f / (static_cast<float>(scaling.factor) * wave);
    const float slope = (static_cast<float>(j) - static_cast<float>(low)) /
                        static_cast<float>(high - low);
    const float share_kept = 1.0f - std::clamp(slope, 0.0f, 1.0f);
    frequencies.push_back(stretched * (1.0f - share_kept) + kept * share_kept);
  }
  return frequencies;
}

double YarnMagnitude(double factor, double mscale, double mscale_all_dim) {
  const auto magnitude = [&](double scale) {
    return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
  };
  if (mscale == 0 || mscale_all_dim == 0) return magnitude(1);
  return magnitude(mscale) / magnitude(mscale_all_dim);
}

Rope::Rope(RopeSpec spec) : spec_(std::move(spec)) {
  OUNCE_CHECK(
      spec_.rotary_dim == 2 * static_cast<int64_t>(spec_.frequencies.size()),
      "a frequency for each pair");
}

void Rope::Angles(int64_t position, float* angles) const {
  for (size_t j = 0; j < spec_.frequencies.size(); ++j) {
    const float angle = static_cast<float>(position) * spec_.frequencies[j];
    angles[2 * j] = std::cos(angle) * spec_.magnitude;
    angles[2 * j + 1] = std::sin(angle) * spec_.magnitude;
  }
}

}  // namespace ounce::model
