// A decoder that continues token sequences, and the batch it takes in one step.
#ifndef OUNCE_MODEL_CAUSAL_LM_H_
#define OUNCE_MODEL_CAUSAL_LM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "model/generation_defaults.h"
#include "model/layers/kv_cache.h"
#include "model/model.h"
#include "quant/matmul.h"

namespace ounce::model {

struct CausalLmShape {
  int64_t vocab_size = 0;     // logits per row; may exceed the tokenizer's size
  int64_t max_positions = 0;  // prompt plus new tokens, in tokens
  KvShape kv;
  std::vector<int32_t> eos_ids;  // generation ends on any of them; may be empty
  GenerationDefaults generation;
};

// One sequence's part of a step: its next tokens, all of which attend to what
// the cache holds of it before them, and to each other causally.
struct SequenceSlice {
  absl::Span<const int32_t> token_ids =
      {};                // at least one, each in [0, vocab_size)
  int64_t position = 0;  // of token_ids[0]; tokens before: cached
  // Blocks that hold positions [0, position + token_ids.size()), in order; the
  // step writes keys and values of the new tokens into them.
  absl::Span<const int32_t> kv_blocks = {};
  int64_t num_logits = 0;  // of its last tokens: 0 (mid-prompt), 1, ... or all
};

class CausalLm : public Model {
 public:
  const CausalLm* causal_lm() const final { return this; }

  virtual const CausalLmShape& shape() const = 0;

  // Bytes of scratch that a step of at most `rows` tokens and `logit_rows`
  // logits needs on a pool of `threads`. Requires logit_rows <= rows.
  virtual size_t ScratchBytes(int64_t rows, int64_t logit_rows,
                              int threads) const = 0;

  // One step over all slices together.
  //
  // Shapes: logits [sum of num_logits, vocab_size], slices in order.
  // Exactness: the result for a slice does not depend, to the last bit, on the
  //   other slices, on how its tokens are cut into steps, or on the threads.
  // Threads: any, with a cache and scratch of its own; the pool is leased by
  //   the caller.
  // Requires what the fields above say, and a `run` of RunOn; no allocation.
  virtual void Forward(absl::Span<const SequenceSlice> slices, KvCache& cache,
                       const Run& run, const quant::Matrix& logits) const = 0;

  // The same network in pieces, which run one after another on x, so that the
  // matrices of one piece need be in memory at a time (LoadOptions::only):
  //
  //   0                  tokens -> x
  //   1 ... layers       x -> x
  //   layers + 1         x -> logits
  //
  // All of them give the bits that Forward does.
  int64_t num_pieces() const { return shape().kv.layers + 2; }
  virtual int64_t width() const = 0;  // of x

  // Whose matrices it reads. A head that is tied to the embedding has a name of
  // its own.
  virtual std::vector<std::string> PieceModules(int64_t piece) const = 0;

  // As Forward, on one slice, and with no more scratch.
  // Shapes: x [tokens of the slice, width]; logits [num_logits, vocab_size],
  //   for the last piece alone.
  // Requires a cache of one layer, which is this piece's.
  virtual void RunPiece(int64_t piece, const SequenceSlice& slice,
                        KvCache& cache, const Run& run, const quant::Matrix& x,
                        const quant::Matrix& logits) const = 0;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CAUSAL_LM_H_
