#include "model/perplexity.h"

#include <algorithm>
#include <cmath>

namespace ounce::model {

TextWindow WindowAt(int64_t first, int64_t num_tokens, int64_t window,
                    int64_t stride) {
  const int64_t end = std::min(first + window, num_tokens);
  TextWindow result;
  result.first = first;
  result.tokens = end - first;
  const int64_t counted_before = first == 0 ? 0 : first - stride + window;
  result.counted = std::min(end - counted_before, result.tokens - 1);
  result.is_last = end == num_tokens;
  return result;
}

namespace {

// ln of the sum of exp(logit), as largest + ln_sum.
struct LogSum {
  explicit LogSum(absl::Span<const float> logits)
      : top(std::max_element(logits.begin(), logits.end()) - logits.begin()),
        largest(logits[top]) {
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit - largest);
    ln_sum = std::log(sum);
  }
  double CostOf(float logit) const { return ln_sum + (largest - logit); }

  int64_t top;
  double largest;
  double ln_sum = 0;
};

}  // namespace

double NegativeLogLikelihood(absl::Span<const float> logits, int32_t token) {
  return LogSum(logits).CostOf(logits[token]);
}

LogitDistance CompareLogits(absl::Span<const float> reference,
                            absl::Span<const float> logits) {
  const LogSum p(reference);
  const LogSum q(logits);
  double kl = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double cost = p.CostOf(reference[i]);
    const double probability = std::exp(-cost);
    // What has none does not count, whatever the other gives it.
    if (probability != 0) kl += probability * (q.CostOf(logits[i]) - cost);
  }
  return {kl, p.top == q.top};
}

void Perplexity::Add(int64_t token, double negative_log_likelihood) {
  ++counted_tokens;
  sum += negative_log_likelihood;
  if (worst_token < 0 || negative_log_likelihood > worst) {
    worst_token = token;
    worst = negative_log_likelihood;
  }
}

double Perplexity::value() const { return std::exp(mean()); }

}  // namespace ounce::model
