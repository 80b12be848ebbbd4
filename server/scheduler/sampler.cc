#include "server/scheduler/sampler.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace ounce::server {
namespace {

// As many as vector registers have lanes at most, so that compilers keep each
// of the running values in one.
constexpr int64_t kLanes = 16;

// e^x for x <= 0, relative error below 3e-7; 0 where float32 would be
// denormal. Branch-free, so that loops over it become vector code, which
// std::exp prevents.
float ExpOfNonPositive(float x) {
  const float clamped = x < -87.0f ? -87.0f : x;
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
  const int32_t bits = (static_cast<int32_t>(exponent) + 127) << 23;
  const float result = p * std::bit_cast<float>(bits);
  return x < -87.0f ? 0.0f : result;
}

struct Maximum {
  float value;
  bool usable;  // no NaN, no +infinity
};

Maximum FindMaximum(absl::Span<const float> logits) {
  float best[kLanes];
  int32_t unusable[kLanes];
  std::fill_n(best, kLanes, -INFINITY);
  std::fill_n(unusable, kLanes, 0);
  const int64_t n = static_cast<int64_t>(logits.size());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float x = logits[i + lane];
      best[lane] = x > best[lane] ? x : best[lane];
      unusable[lane] |= x <= FLT_MAX ? 0 : 1;
    }
  }
  for (; i < n; ++i) {
    best[0] = std::max(best[0], logits[i]);
    unusable[0] |= logits[i] <= FLT_MAX ? 0 : 1;
  }
  return {*std::max_element(best, best + kLanes),
          *std::max_element(unusable, unusable + kLanes) == 0};
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

Sampler::Sampler(int64_t vocab_size, int64_t num_tokens)
    : vocab_size_(vocab_size),
      num_tokens_(std::min(vocab_size, num_tokens)),
      penalized_(num_tokens_),
      penalized_in_(vocab_size, 0),
      weights_(num_tokens_),
      ids_(num_tokens_) {
  OUNCE_CHECK(num_tokens_ >= 1, "a vocabulary without tokens");
  std::iota(ids_.begin(), ids_.end(), 0);
  candidates_.reserve(num_tokens_);
  top_.reserve(num_tokens_);
}

absl::Span<const float> Sampler::Penalized(absl::Span<const float> logits,
                                           float penalty,
                                           absl::Span<const int32_t> history) {
  std::copy_n(logits.begin(), num_tokens_, penalized_.begin());
  ++call_;
  if (call_ == 0) {  // the counter came round
    std::fill(penalized_in_.begin(), penalized_in_.end(), 0u);
    call_ = 1;
  }
  for (const int32_t id : history) {
    if (id >= num_tokens_ || penalized_in_[id] == call_) continue;
    penalized_in_[id] = call_;
    const float logit = penalized_[id];
    // A tiny penalty must not make an infinity of a large logit; one that the
    // model made stays what it is.
    const float scaled = logit > 0 ? logit / penalty : logit * penalty;
    penalized_[id] =
        std::isfinite(logit) ? std::clamp(scaled, -FLT_MAX, FLT_MAX) : logit;
  }
  return penalized_;
}

int32_t Sampler::Draw(absl::Span<const float> logits, float max_logit,
                      const SamplingParams& params, double uniform) {
  const Better better{logits.data()};
  const float inverse_temperature = 1.0f / params.temperature;
  const auto weight_of = [&](int32_t id) {
    // 0 * infinity, where the inverse of a denormal temperature overflows, is
    // the most probable token's own.
    const float distance = logits[id] - max_logit;
    return distance == 0 ? 1.0f
                         : ExpOfNonPositive(distance * inverse_temperature);
  };

  // Tokens that are worse than the cutoff are filtered out.
  int32_t cutoff = -1;
  const bool filter_k = params.top_k > 0 && params.top_k < num_tokens_;
  const bool filter_p = params.top_p < 1;
  candidates_.clear();
  if (filter_k) {
    // A heap of k is faster than a selection as long as it rarely changes.
    constexpr int64_t kHeapLimit = 512;
    if (params.top_k <= kHeapLimit) {
      candidates_.resize(params.top_k);
      std::partial_sort_copy(ids_.begin(), ids_.end(), candidates_.begin(),
                             candidates_.end(), better);
    } else {
      candidates_ = ids_;
      std::nth_element(candidates_.begin(),
                       candidates_.begin() + (params.top_k - 1),
                       candidates_.end(), better);
      candidates_.resize(params.top_k);
    }
    cutoff = candidates_[params.top_k - 1];
    for (const int32_t id : candidates_) weights_[id] = weight_of(id);
  } else {
    for (int64_t id = 0; id < num_tokens_; ++id) weights_[id] = weight_of(id);
    if (filter_p) candidates_ = ids_;
  }

  if (filter_p) {
    double mass = 0;
    for (const int32_t id : candidates_) mass += weights_[id];
    // Halves the range in which the set's last token lies, until it is small
    // enough to sort.
    double wanted = mass * static_cast<double>(params.top_p);
    auto first = candidates_.begin();
    auto last = candidates_.end();
    while (last - first > 16) {
      const auto middle = first + (last - first) / 2;
      std::nth_element(first, middle, last, better);
      double half = 0;
      for (auto it = first; it != middle; ++it) half += weights_[*it];
      if (half >= wanted) {
        last = middle;
      } else {
        wanted -= half;
        first = middle;
      }
    }
    std::sort(first, last, better);
    for (auto it = first; it != last; ++it) {
      cutoff = *it;
      wanted -= weights_[*it];
      if (wanted <= 0) break;
    }
  }

  const auto kept = [&](int32_t id) {
    return (cutoff < 0 || !better(cutoff, id)) && weights_[id] >= params.min_p;
  };
  double total = 0;
  for (int32_t id = 0; id < num_tokens_; ++id) {
    if (kept(id)) total += weights_[id];
  }
  const double target = uniform * total;
  double sum = 0;
  int32_t result = 0;
  for (int32_t id = 0; id < num_tokens_; ++id) {
    if (!kept(id) || weights_[id] == 0) continue;
    result = id;  // rounding may leave the sum below the target at the end
    sum += weights_[id];
    if (sum > target) break;
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
  absl::Span<const float> logits = row.first(num_tokens_);
  if (params.repetition_penalty != 1) {
    logits = Penalized(logits, params.repetition_penalty, history);
  }
  const Maximum maximum = FindMaximum(logits);
  if (!maximum.usable || maximum.value < -FLT_MAX) {
    return absl::InternalError(
        absl::StrCat("the model gave logits that are no numbers for new token ",
                     token_index));
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

  double sum = 0;
  for (const float logit : logits) {
    sum += ExpOfNonPositive(logit - maximum.value);
  }
  const double log_sum = std::log(sum) + maximum.value;
  const auto logprob_of = [&](int32_t id) {
    return static_cast<float>(logits[id] - log_sum);
  };
  token.logprob = logprob_of(token.id);
  candidates_.resize(std::min<int64_t>(num_logprobs, num_tokens_));
  std::partial_sort_copy(ids_.begin(), ids_.end(), candidates_.begin(),
                         candidates_.end(), Better{logits.data()});
  top_.clear();
  for (const int32_t id : candidates_) top_.push_back({id, logprob_of(id)});
  token.top = top_;
  return token;
}

}  // namespace ounce::server
