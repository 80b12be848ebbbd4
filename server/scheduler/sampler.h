// From the logits of one position to the next token.
//
// Order: suppressed tokens, repetition penalty, temperature, top_k, top_p,
// min_p, draw. "The k best" and "the smallest set" are by logit, the lower id
// first among equals. The tokens that are left lie on [0, 1) in the order of
// their ids, each as long as its probability, and UniformDraw(seed,
// token_index) points at one. So the token depends on logits, history,
// parameters and index alone, never on what else is in the batch.
#ifndef OUNCE_SERVER_SCHEDULER_SAMPLER_H_
#define OUNCE_SERVER_SCHEDULER_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/scheduler/request.h"

namespace ounce::server {

// Number `index` (from 0) of the stream that belongs to `seed`: 53 random bits
// as a double in [0, 1). SplitMix64 (Steele, Lea, Flood 2014), whose n-th
// output is a function of seed and n, started at a scrambled seed.
double UniformDraw(uint64_t seed, int64_t index);

struct IdLogprob {
  int32_t id = 0;
  float logprob = 0;
};

struct SampledToken {
  int32_t id = 0;
  // If asked for: of `id`, and of the most probable tokens, best first; valid
  // until the next call.
  float logprob = 0;
  absl::Span<const IdLogprob> top;
};

// Time: linear in the vocabulary. After construction nothing is allocated.
//
// Threads: one at a time.
class Sampler {
 public:
  // Logit rows have vocab_size floats; ids from num_tokens on (padding of the
  // vocabulary) are never produced and have no probability. num_tokens >= 1.
  // Nor are those of `suppressed`, each in [0, vocab_size): their logits become
  // -infinity before anything else. They leave at least one token.
  Sampler(int64_t vocab_size, int64_t num_tokens,
          absl::Span<const int32_t> suppressed = {});

  // `history`: prompt and output so far, each id in [0, vocab_size).
  // Errors: kFailedPrecondition when a logit is NaN or +infinity, or all are
  // -infinity.
  absl::StatusOr<SampledToken> Sample(absl::Span<const float> logits,
                                      const SamplingParams& params,
                                      absl::Span<const int32_t> history,
                                      int64_t token_index, int num_logprobs);

 private:
  absl::Span<const float> Adjusted(absl::Span<const float> logits,
                                   float penalty,
                                   absl::Span<const int32_t> history);
  void Penalize(float penalty, absl::Span<const int32_t> history);
  // Both move the cutoff: tokens that are worse are filtered out.
  void FindCutoffOfTopK(absl::Span<const float> logits, int64_t k);
  void FindCutoffOfTopP(absl::Span<const float> logits, float max_logit,
                        float top_p);
  int32_t Draw(absl::Span<const float> logits, float max_logit,
               const SamplingParams& params, double uniform);

  const int64_t vocab_size_;
  const int64_t num_tokens_;
  const std::vector<int32_t> suppressed_;
  std::vector<float> adjusted_;
  std::vector<uint32_t> penalized_in_;  // by id: the call that did it last
  uint32_t call_ = 0;
  float temperature_ = 1;
  std::vector<float> weights_;
  int32_t cutoff_ = -1;       // an id; negative: none
  std::vector<int32_t> ids_;  // 0, 1, 2, ...
  std::vector<int32_t> candidates_;
  std::vector<IdLogprob> top_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_SAMPLER_H_
