// Causal self-attention of one layer over the paged KV cache (kv_cache.h):
//
//   y = softmax(cap(q K^T / divisor) + bias) V
//
// for each token and query head, over the positions up to the token's own, or
// the last `window` of them. Several query heads may share a key/value head,
// which is then stored once, and read once for several of them where queries
// are few. Queries and keys are normalized (norm.h) and turned (rope.h), and
// keys and values stored on the way, in the type of the cache (kv_type.h): what
// they are rounded to is what all tokens see, the token's own included.
//
// Exactness: the result of a token depends on its own query and on the keys and
//   values that it sees, to the last bit; not on the other tokens of the step,
//   the other heads, the blocks that the cache chose, or the threads. For each
//   (token, head):
//   - a score is one fused-multiply-add chain over D, ascending, of elements as
//     the cache has them, times the key's scale if there is one;
//   - lane i of the softmax's sum adds the positions of that remainder by the
//     lanes, ascending; the lanes are added up as a tree;
//   - an output is one fused-multiply-add chain over positions, ascending, of
//     elements and of weights times the values' scales.
//   Tiles of several queries share what is loaded, never an order of
//   operations.
#ifndef OUNCE_MODEL_LAYERS_ATTENTION_H_
#define OUNCE_MODEL_LAYERS_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/cpu.h"
#include "base/thread_pool.h"
#include "model/layers/kv_cache.h"
#include "model/layers/norm.h"
#include "model/layers/rope.h"
#include "quant/matmul.h"
#include "quant/scratch.h"

namespace ounce::model {

// The consecutive tokens of one sequence in a step.
struct AttentionSlice {
  int64_t first_row;                    // of its first token, in qkv and y
  int64_t rows;                         // at least one
  int64_t position;                     // of its first token
  absl::Span<const int32_t> kv_blocks;  // of positions [0, position + rows)
};

// Where the D elements of each head begin in a row of qkv, for H query heads
// and G key/value heads; each of these is some query head's.
struct AttentionLayout {
  std::vector<int64_t> query;    // [H]
  std::vector<int64_t> key;      // [G]
  std::vector<int64_t> value;    // [G]
  std::vector<int32_t> kv_head;  // [H], which of the G a query head reads
  int64_t head_dim = 0;          // D
};

// Shapes: qkv [rows, any], whose queries and keys are overwritten; angles
// [rows,
//   rotary_dim] as Rope::Angles writes them; y [rows, H * D].
struct AttentionStep {
  absl::Span<const AttentionSlice> slices;
  const AttentionLayout& layout;
  quant::Matrix qkv;
  const float* angles = nullptr;
  int64_t rotary_dim = 0;  // of each head's D; 0: nothing turns
  RopePairing pairing = RopePairing::kInterleaved;
  float score_divisor;       // mostly the root of D
  float score_soft_cap = 0;  // c: scores become c * tanh(score / c); 0: none
  int64_t window = 0;  // a token sees itself and window - 1 before it; 0: all
  // Added to a head's scores by the position of the key: [H, stride], stride at
  // least the positions; null: nothing.
  const float* position_bias = nullptr;
  int64_t position_bias_stride = 0;
  // Of the D elements of each head, before they turn; null: none.
  const NormWeights* query_norm = nullptr;
  const NormWeights* key_norm = nullptr;
  KvCache& cache;  // of G heads
  int64_t layer;
  quant::Matrix y;
};

// Scratch: what is taken grows with the rows, the slices and the largest
//   position of the step, and with nothing else of it. So a counting pass
//   (quant/scratch.h) whose slices are as many as can be, of one token each at
//   the last position, counts the most.
// Threads: any, with a pool that the caller leases. No allocation beyond
//   `scratch`.
void Attention(const AttentionStep& step, ThreadPool& pool,
               quant::Scratch& scratch, Isa isa = BestIsa());

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_ATTENTION_H_
