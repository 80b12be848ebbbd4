// How well a language model predicts a text: what is counted, and the sums.
//
// The text's tokens t[0], t[1], ... go through the model in windows that
// overlap, as transformers' page on the perplexity of fixed-length models has
// it (window w, stride s <= w):
//
//   tokens    0 ............... w
//   window 0  [ counted: 1 .. w )
//   window 1        s [ context | counted: the last s )
//   window 2              2s [ context | counted: the last s )
//
// Each counted token is predicted from what stands before it in its window, so
// the first of a window never counts. The last window ends with the text.
//
//   perplexity = exp(mean of -ln p(token) over all counted tokens)
//
// Error: each logit is what the model gives in float32; everything after that
//   is float64, summed in the order of the text.
#ifndef OUNCE_MODEL_PERPLEXITY_H_
#define OUNCE_MODEL_PERPLEXITY_H_

#include <cstdint>

#include "absl/types/span.h"

namespace ounce::model {

struct TextWindow {
  int64_t first = 0;    // its first token
  int64_t tokens = 0;   // at least 2, unless the text has but one
  int64_t counted = 0;  // its last ones; less than `tokens`
  bool is_last = false;
};

// The window at token `first`, which is 0 or the one before plus `stride`.
// Requires a first window, or one before it that is not the last; num_tokens >=
// 1, window >= 2 and 1 <= stride <= window.
TextWindow WindowAt(int64_t first, int64_t num_tokens, int64_t window,
                    int64_t stride);

// -ln of what softmax(logits) gives to `token`. NaN if a logit is one, or
// +infinity.
double NegativeLogLikelihood(absl::Span<const float> logits, int32_t token);

// How far softmax(logits) is from softmax(reference).
struct LogitDistance {
  // KL(reference || logits), in nats: the mean over the reference's tokens of
  // ln p_reference - ln p. NaN as above.
  double kl = 0;
  bool same_top = false;  // the most likely token, the first of equals
};
LogitDistance CompareLogits(absl::Span<const float> reference,
                            absl::Span<const float> logits);

struct Perplexity {
  int64_t counted_tokens = 0;
  double sum = 0;  // of -ln p
  // The token that was predicted worst, the first of equals, by its place in
  // the text; -1: none was counted.
  int64_t worst_token = -1;
  double worst = 0;

  // The next counted token.
  void Add(int64_t token, double negative_log_likelihood);

  double mean() const { return sum / static_cast<double>(counted_tokens); }
  double value() const;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_PERPLEXITY_H_
