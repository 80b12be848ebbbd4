// Causal self-attention of one layer over the paged KV cache (kv_cache.h):
//
//   y = softmax(q K^T / sqrt(D)) V
//
// for each token and head, over the positions up to the token's own. Queries
// and keys are turned (rope.h) and keys and values stored on the way.
//
// Exactness: the result of a token depends on its own query and on keys and
//   values up to it, to the last bit; not on the other tokens of the step, the
//   blocks that the cache chose, or the threads. For each (token, head):
//   - a score is one fused-multiply-add chain over D, ascending;
//   - lane i of the softmax's sum adds positions i, i + lanes, ...; the lanes
//     are added up as a tree;
//   - an output is one fused-multiply-add chain over positions, ascending.
// Tiles of several queries share what is loaded, never an order of operations.
#ifndef OUNCE_MODEL_LAYERS_ATTENTION_H_
#define OUNCE_MODEL_LAYERS_ATTENTION_H_

#include <cstdint>

#include "absl/types/span.h"
#include "base/cpu.h"
#include "base/thread_pool.h"
#include "model/layers/kv_cache.h"
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

// Where a head's D elements begin in a row of qkv.
struct HeadColumns {
  int64_t query;
  int64_t key;
  int64_t value;
};

// Shapes: H heads, D head size; qkv [rows, any], whose queries are turned in
//   place; angles [rows, rotary_dim] as InterleavedRope::Angles writes them;
//   y [rows, H * D].
struct AttentionStep {
  absl::Span<const AttentionSlice> slices;
  absl::Span<const HeadColumns> heads;  // [H]
  quant::Matrix qkv;
  const float* angles;
  int64_t rotary_dim;
  KvCache& cache;
  int64_t layer;
  quant::Matrix y;
};

// Bytes of scratch for sequences of up to `max_positions`, in a step of up to
// `slices` slices.
size_t AttentionScratchBytes(int64_t slices, int64_t max_positions,
                             int threads);

// Threads: any, with a pool that the caller leases. No allocation beyond
// `scratch`.
void Attention(const AttentionStep& step, ThreadPool& pool,
               quant::Scratch& scratch, Isa isa = BestIsa());

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_ATTENTION_H_
