// Attention of some rows over all keys, without a cache and without a mask:
//
//   y = softmax(scale * q k^T) v        for each head
//
// computed a few rows at a time, so that the scores never leave the cache.
//
// Exactness: a row of y depends on that row of q and on k, v alone, to the last
//   bit. kBFloat16 rounds q * scale, k, v and the exponentials (each in (0, 1])
//   to bfloat16; sums are float32.
// Numeric error: of kFloat32 a few roundings; of kBFloat16 beside what its
//   roundings do at most 1.5e-4 of the largest |v|, since with AMX or
//   AVX-512 BF16 exponentials are only as good as rounding them is worth.
#ifndef OUNCE_MODEL_LAYERS_DENSE_ATTENTION_H_
#define OUNCE_MODEL_LAYERS_DENSE_ATTENTION_H_

#include <cstdint>

#include "absl/types/span.h"
#include "base/cpu.h"
#include "base/thread_pool.h"
#include "quant/compute.h"
#include "quant/matmul.h"
#include "quant/scratch.h"

namespace ounce::model {

// One picture's. Shapes: q, y [rows, heads * head_dim]; k, v [keys, heads *
// head_dim], keys >= 1; head h has columns [h * head_dim, (h + 1) * head_dim).
// All may be columns of wider matrices.
struct DenseAttentionJob {
  quant::ConstMatrix q;
  quant::ConstMatrix k;
  quant::ConstMatrix v;
  quant::Matrix y;
};

// Threads: any, with a pool that the caller leases. No allocation beyond
//   `scratch`.
void DenseAttention(absl::Span<const DenseAttentionJob> jobs, int64_t heads,
                    float scale, quant::Compute compute, ThreadPool& pool,
                    quant::Scratch& scratch, Isa isa = BestIsa());

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_DENSE_ATTENTION_H_
