#include "server/scheduler/sampler.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

// As many as vector registers have lanes at most, so that compilers keep each
// of the running values in one.
constexpr int64_t kLanes = 16;

// e^x for x <= 0, relative error below 3e-7; 0 below -87, where float32 is
// about to become denormal. Free of branches and of comparisons of floats,
// which compilers count as branches because they may trap: so that loops over
// it become vector code, as they don't with std::exp.
float ExpOfNonPositive(float x) {
  // Bits of negative floats, as integers, grow with the magnitude.
  constexpr int32_t kLowest = std::bit_cast<int32_t>(-87.0f);
  const int32_t x_bits = std::bit_cast<int32_t>(x) | INT32_MIN;
  const int32_t in_range = -static_cast<int32_t>(x_bits < kLowest);
  const float clamped =
      std::bit_cast<float>(x_bits < kLowest ? x_bits : kLowest);
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds
  const float exponent = (clamped * 1.44269504f + kRound) - kRound;
  const float r =
      (clamped - exponent * 0.693359375f) - exponent * -2.12194440e-4f;
  float p = 1.9875691500e-4f;  // Cephes expf
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t power = (static_cast<int32_t>(exponent) + 127) << 23;
  const float result = p * std::bit_cast<float>(power);
  return std::bit_cast<float>(std::bit_cast<int32_t>(result) & in_range);
}

struct Maximum {
  float value;
  bool usable;  // no NaN, no +infinity
};

Maximum FindMaximum(absl::Span<const float> logits) {
  float best[kLanes];
  int32_t usable[kLanes];
  std::fill_n(best, kLanes, -INFINITY);
  std::fill_n(usable, kLanes, -1);
  const float* const x = logits.data();
  const int64_t n = static_cast<int64_t>(logits.size());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      best[lane] = x[i + lane] > best[lane] ? x[i + lane] : best[lane];
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      usable[lane] &= x[i + lane] <= FLT_MAX ? -1 : 0;
    }
  }
  for (; i < n; ++i) {
    best[0] = std::max(best[0], x[i]);
    usable[0] &= x[i] <= FLT_MAX ? -1 : 0;
  }
  return {*std::max_element(best, best + kLanes),
          *std::max_element(usable, usable + kLanes) == -1};
}

// weights[i] = e^((logits[i] - max_logit) * inverse_temperature), 1 for the
// most probable: in (0, 1], or 0 where float32 ends.
void FillWeights(absl::Span<const float> logits, float max_logit,
                 float inverse_temperature, float* __restrict weights) {
  const float* const x = logits.data();
  const int64_t n = static_cast<int64_t>(logits.size());
  for (int64_t i = 0; i < n; ++i) {
    weights[i] = ExpOfNonPositive((x[i] - max_logit) * inverse_temperature);
  }
}

// In an order of its own that depends on n alone.
double Sum(const float* x, int64_t n) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane];
  }
  for (; i < n; ++i) lanes[0] += x[i];
  return std::accumulate(lanes, lanes + kLanes, 0.0);
}

// The order of "most probable": by logit, the lower id first among equals.
struct Better {
  const float* logits;
  bool operator()(int32_t a, int32_t b) const {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  }
};

uint64_t SplitMix(uint64_t state) {
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
  return state ^ (state >> 31);
}

}  // namespace

double UniformDraw(uint64_t seed, int64_t index) {
  constexpr uint64_t kGamma = 0x9e3779b97f4a7c15u;
  const uint64_t bits = SplitMix(SplitMix(seed + kGamma) +
                                 (static_cast<uint64_t>(index) + 1) * kGamma);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

Sampler::Sampler(int64_t vocab_size, int64_t num_tokens,
                 absl::Span<const int32_t> suppressed)
    : vocab_size_(vocab_size),
      num_tokens_(std::min(vocab_size, num_tokens)),
      suppressed_(suppressed.begin(), suppressed.end()),
      adjusted_(num_tokens_),
      penalized_in_(vocab_size, 0),
      weights_(num_tokens_),
      ids_(num_tokens_) {
  OUNCE_CHECK(num_tokens_ >= 1, "a vocabulary without tokens");
  std::iota(ids_.begin(), ids_.end(), 0);
  candidates_.reserve(num_tokens_);
  top_.reserve(num_tokens_);
}

absl::Span<const float> Sampler::Adjusted(absl::Span<const float> logits,
                                          float penalty,
                                          absl::Span<const int32_t> history) {
  if (penalty == 1 && suppressed_.empty()) return logits;
  std::copy_n(logits.begin(), num_tokens_, adjusted_.begin());
  for (const int32_t id : suppressed_) {
    if (id < num_tokens_) adjusted_[id] = -INFINITY;
  }
  if (penalty != 1) Penalize(penalty, history);
  return adjusted_;
}

void Sampler::Penalize(float penalty, absl::Span<const int32_t> history) {
  ++call_;
  if (call_ == 0) {  // the counter came round
    std::fill(penalized_in_.begin(), penalized_in_.end(), 0u);
    call_ = 1;
  }
  for (const int32_t id : history) {
    if (id >= num_tokens_ || penalized_in_[id] == call_) continue;
    penalized_in_[id] = call_;
    const float logit = adjusted_[id];
    // A tiny penalty must not make an infinity of a large logit; one that the
    // model made stays what it is.
    const float scaled = logit > 0 ? logit / penalty : logit * penalty;
    adjusted_[id] =
        std::isfinite(logit) ? std::clamp(scaled, -FLT_MAX, FLT_MAX) : logit;
  }
}

void Sampler::FindCutoffOfTopK(absl::Span<const float> logits, int64_t k) {
  const Better better{logits.data()};
  // A heap of k is faster than a selection as long as it rarely changes.
  constexpr int64_t kHeapLimit = 512;
  if (k <= kHeapLimit) {
    candidates_.resize(k);
    std::partial_sort_copy(ids_.begin(), ids_.end(), candidates_.begin(),
                           candidates_.end(), better);
  } else {
    candidates_ = ids_;
    std::nth_element(candidates_.begin(), candidates_.begin() + (k - 1),
                     candidates_.end(), better);
  }
  cutoff_ = candidates_[k - 1];
}

// Puts the tokens that are left into classes by logarithm of their weight, goes
// down the classes to the one in which the sum is reached, and sorts only that.
void Sampler::FindCutoffOfTopP(absl::Span<const float> logits, float max_logit,
                               float top_p) {
  const Better better{logits.data()};
  const auto left = [&](int32_t id) {
    return cutoff_ < 0 || !better(cutoff_, id);
  };
  // By logit, so that whoever is better is never in a later class: rounding
  // keeps the order.
  constexpr int kClasses = 1024;
  const float per_logit = kClasses / 32.0f / temperature_;
  const auto class_of = [&](int32_t id) {
    const float distance = max_logit - logits[id];
    return distance > 0 ? static_cast<int>(
                              std::min(distance * per_logit, kClasses - 1.0f))
                        : 0;
  };
  double mass[kClasses] = {};
  double total = 0;
  for (int32_t id = 0; id < num_tokens_; ++id) {
    if (!left(id)) continue;
    mass[class_of(id)] += weights_[id];
    total += weights_[id];
  }
  double wanted = total * static_cast<double>(top_p);
  int last = 0;
  while (last + 1 < kClasses && wanted > mass[last]) wanted -= mass[last++];

  candidates_.clear();
  for (int32_t id = 0; id < num_tokens_; ++id) {
    if (left(id) && class_of(id) == last) candidates_.push_back(id);
  }
  std::sort(candidates_.begin(), candidates_.end(), better);
  for (const int32_t id : candidates_) {
    cutoff_ = id;
    wanted -= weights_[id];
    if (wanted <= 0) break;
  }
}

int32_t Sampler::Draw(absl::Span<const float> logits, float max_logit,
                      const SamplingParams& params, double uniform) {
  temperature_ = params.temperature;
  // Finite, so that the most probable token's distance of 0 stays 0.
  FillWeights(logits, max_logit, std::min(1.0f / temperature_, FLT_MAX),
              weights_.data());
  cutoff_ = -1;
  if (params.top_k > 0 && params.top_k < num_tokens_) {
    FindCutoffOfTopK(logits, params.top_k);
  }
  if (params.top_p < 1) FindCutoffOfTopP(logits, max_logit, params.top_p);
  if (cutoff_ >= 0) {
    const Better better{logits.data()};
    for (int32_t id = 0; id < num_tokens_; ++id) {
      if (better(cutoff_, id)) weights_[id] = 0;
    }
  }
  if (params.min_p > 0) {
    for (float& weight : weights_) {
      weight = weight < params.min_p ? 0.0f : weight;
    }
  }

  // Which stretch of tokens, then which token.
  constexpr int64_t kStretch = 256;
  double total = 0;
  for (int64_t i = 0; i < num_tokens_; i += kStretch) {
    total += Sum(&weights_[i], std::min(kStretch, num_tokens_ - i));
  }
  double target = uniform * total;
  int64_t first = 0;
  for (int64_t i = 0; i < num_tokens_; i += kStretch) {
    const double sum = Sum(&weights_[i], std::min(kStretch, num_tokens_ - i));
    if (sum == 0) continue;
    first = i;
    if (sum > target) break;
    target -= sum;
  }
  // Rounding may leave the target just past the end: then the last token that
  // has a weight.
  int32_t result = static_cast<int32_t>(first);
  for (int64_t i = first; i < std::min(first + kStretch, num_tokens_); ++i) {
    if (weights_[i] == 0) continue;
    result = static_cast<int32_t>(i);
    target -= weights_[i];
    if (target < 0) break;
  }
  return result;
}

absl::StatusOr<SampledToken> Sampler::Sample(absl::Span<const float> row,
                                             const SamplingParams& params,
                                             absl::Span<const int32_t> history,
                                             int64_t token_index,
                                             int num_logprobs) {
  OUNCE_CHECK(static_cast<int64_t>(row.size()) == vocab_size_,
              "a row of logits of another length");
  const absl::Span<const float> logits =
      Adjusted(row.first(num_tokens_), params.repetition_penalty, history);
  const Maximum maximum = FindMaximum(logits);
  if (!maximum.usable || maximum.value < -FLT_MAX) {
    return Refusal(Reason::kModelNotFinite,
                   absl::StrCat("the logits of new token ", token_index,
                                " are not finite"));
  }

  SampledToken token;
  if (params.temperature > 0) {
    token.id = Draw(logits, maximum.value, params,
                    UniformDraw(params.seed, token_index));
  } else {
    token.id = static_cast<int32_t>(
        std::find(logits.begin(), logits.end(), maximum.value) -
        logits.begin());
  }
  if (num_logprobs <= 0) return token;

  FillWeights(logits, maximum.value, 1.0f, weights_.data());
  const double log_sum =
      std::log(Sum(weights_.data(), num_tokens_)) + maximum.value;
  const auto logprob_of = [&](int32_t id) {
    return static_cast<float>(logits[id] - log_sum);
  };
  token.logprob = logprob_of(token.id);
  candidates_.resize(std::min<int64_t>(num_logprobs, num_tokens_));
  std::partial_sort_copy(ids_.begin(), ids_.end(), candidates_.begin(),
                         candidates_.end(), Better{logits.data()});
  top_.clear();
  for (const int32_t id : candidates_) {
    if (logits[id] < -FLT_MAX) break;  // it and those after it can't come
    top_.push_back({id, logprob_of(id)});
  }
  token.top = top_;
  return token;
}

}  // namespace ounce::server
