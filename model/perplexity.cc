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

double NegativeLogLikelihood(absl::Span<const float> logits, int32_t token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return std::log(sum) + (largest - logits[token]);
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
