// Written once, compiled per instruction set, without contraction (every fused
// multiply-add is spelled out), so that an output's operations are the same in
// every tile shape.
#ifndef OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_IMPL_H_
#define OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_IMPL_H_

#include <cstdint>

#include "model/layers/kernels/layer_kernels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::model::OUNCE_VEC {

using quant::vec::Exp;
using quant::vec::Floats;
using quant::vec::Fma;
using quant::vec::Ints;
using quant::vec::kLanes;
using quant::vec::Load;
using quant::vec::LoadPart;
using quant::vec::Max;
using quant::vec::ReduceAdd;
using quant::vec::ReduceMax;
using quant::vec::Select;
using quant::vec::Set;
using quant::vec::Store;
using quant::vec::StorePart;

// All ones in the first `count` lanes.
inline Ints FirstLanes(int64_t count) {
  Ints lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < (Ints{} + static_cast<int32_t>(count));
}

inline void LayerNormRow(const float* x, const float* weight, const float* bias,
                         int64_t cols, float epsilon, float* y) {
  const float count = static_cast<float>(cols);
  Floats sums{};
  for (int64_t col = 0; col < cols; col += kLanes) {
    sums += LoadPart(x + col, cols - col);
  }
  const Floats mean = Set(ReduceAdd(sums) / count);

  Floats squares{};
  for (int64_t col = 0; col < cols; col += kLanes) {
    Floats centered = LoadPart(x + col, cols - col) - mean;
    if (cols - col < kLanes) {
      centered = Select(FirstLanes(cols - col), centered, Floats{});
    }
    squares = Fma(centered, centered, squares);
  }
  const float variance = ReduceAdd(squares) / count;
  const Floats scale = Set(1.0f / __builtin_sqrtf(variance + epsilon));

  for (int64_t col = 0; col < cols; col += kLanes) {
    const int64_t left = cols - col;
    const Floats normal = (LoadPart(x + col, left) - mean) * scale;
    StorePart(
        Fma(normal, LoadPart(weight + col, left), LoadPart(bias + col, left)),
        y + col, left);
  }
}

inline constexpr int kBlockVectors = kAttentionBlockTokens / kLanes;

// Shapes of tiles that fit the registers: sums, and one operand of each kind.
// Many rows, so that keys and values are read from the L2 cache rarely; a lone
// row has more chains instead, which hide the latency of an addition.
inline constexpr int kTileRows = kLanes == 16 ? 8 : 2;
constexpr int ScoreBlocksFor(int rows) {
  return kLanes == 16 ? (rows == 8 ? 2 : 4) : kLanes == 8 ? 2 : 1;
}
constexpr int ValueVectorsFor(int rows) {
  return kLanes == 16 ? (rows == 8 ? 2 : 4) : kLanes == 8 ? 4 : 2;
}
static_assert(kTileRows <= kAttentionTileRows);

inline const float* Keys(const HeadJob& job, int64_t block) {
  return job.kv + job.blocks[block] * job.block_stride;
}
inline const float* Values(const HeadJob& job, int64_t block) {
  return Keys(job, block) + job.head_dim * kAttentionBlockTokens;
}

// Scores of kRows queries against kBlocks blocks.
template <int kRows, int kBlocks>
inline void ScoreBlocks(const HeadJob& job, const float* queries,
                        int64_t first_block, int64_t num_blocks,
                        float* scores) {
  constexpr int kVectors = kBlocks * kBlockVectors;
  const float* keys[kBlocks];
  const float* ahead[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    keys[b] = Keys(job, first_block + b);
    const int64_t next = first_block + kBlocks + b;
    ahead[b] = next < num_blocks ? Keys(job, next) : keys[b];
  }
  Floats sums[kRows][kVectors];
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[r][v] = Floats{};
  }
  for (int64_t d = 0; d < job.head_dim; ++d) {
    Floats k[kVectors];
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      k[v] = Load(keys[v / kBlockVectors] + d * kAttentionBlockTokens +
                  v % kBlockVectors * kLanes);
    }
    // A lone query waits for memory: the hardware's prefetcher stops at the
    // end of each block's page.
    if (kRows == 1) {
      OUNCE_UNROLL
      for (int b = 0; b < kBlocks; ++b) {
        __builtin_prefetch(ahead[b] + d * kAttentionBlockTokens);
      }
    }
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const Floats q = Set(queries[r * job.query_stride + d]);
      OUNCE_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[r][v] = Fma(q, k[v], sums[r][v]);
    }
  }
  const Floats divisor = Set(__builtin_sqrtf(static_cast<float>(job.head_dim)));
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      Store(sums[r][v] / divisor, scores + r * job.score_stride +
                                      first_block * kAttentionBlockTokens +
                                      v * kLanes);
    }
  }
}

// scores[0, count) to e^(score - largest), zeros up to the end of the block.
// Returns their sum.
inline float Exponentials(float* scores, int64_t count) {
  const float infinity = __builtin_inff();
  if (const int64_t rest = count % kLanes; rest != 0) {
    float* last = scores + count - rest;
    Store(Select(FirstLanes(rest), Load(last), Set(-infinity)), last);
  }
  Floats largest = Set(-infinity);
  for (int64_t i = 0; i < count; i += kLanes) {
    largest = Max(Load(scores + i), largest);
  }
  const Floats offset = Set(ReduceMax(largest));
  Floats sums{};
  for (int64_t i = 0; i < count; i += kLanes) {
    const Floats e = Exp(Load(scores + i) - offset);
    Store(e, scores + i);
    sums += e;
  }
  return ReduceAdd(sums);
}

// Outputs [d, d + kVectors * kLanes) of kRows tokens; only `count` of them if
// kPart.
template <int kRows, int kVectors, bool kPart>
inline void MixValues(const HeadJob& job, int64_t position, const float* scores,
                      const float* sums, int64_t d, int64_t count, float* y) {
  Floats mixed[kRows][kVectors];
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) mixed[r][v] = Floats{};
  }
  const auto add = [&](const float* value, int64_t at, int first_row)
      __attribute__((always_inline)) {
    Floats x[kVectors];
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      x[v] = kPart ? LoadPart(value + d, count) : Load(value + d + v * kLanes);
    }
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (r < first_row) continue;
      const Floats p = Set(scores[r * job.score_stride + at]);
      OUNCE_UNROLL
      for (int v = 0; v < kVectors; ++v)
        mixed[r][v] = Fma(p, x[v], mixed[r][v]);
    }
  };

  // What all rows see, then what only the later ones do.
  const int64_t common = position + 1;
  for (int64_t first = 0; first < common; first += kAttentionBlockTokens) {
    const int64_t block = first / kAttentionBlockTokens;
    const float* values = Values(job, block);
    const int64_t left = common - first;
    const int64_t tokens =
        left < kAttentionBlockTokens ? left : kAttentionBlockTokens;
    const float* ahead =
        left > kAttentionBlockTokens ? Values(job, block + 1) : values;
    for (int64_t i = 0; i < tokens; ++i) {
      if (kRows == 1) {
        for (int v = 0; v < kVectors; ++v) {
          __builtin_prefetch(ahead + i * job.head_dim + d + v * kLanes);
        }
      }
      add(values + i * job.head_dim, first + i, 0);
    }
  }
  OUNCE_UNROLL
  for (int r = 1; r < kRows; ++r) {
    const int64_t at = position + r;
    add(Values(job, at / kAttentionBlockTokens) +
            at % kAttentionBlockTokens * job.head_dim,
        at, r);
  }

  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const Floats sum = Set(sums[r]);
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      float* out = y + r * job.y_stride + d + v * kLanes;
      if (kPart) {
        StorePart(mixed[r][v] / sum, out, count);
      } else {
        Store(mixed[r][v] / sum, out);
      }
    }
  }
}

template <int kRows>
inline void AttendTile(const HeadJob& job, int64_t row) {
  const int64_t position = job.position + row;
  const float* queries = job.queries + row * job.query_stride;
  const int64_t blocks = (position + kRows - 1) / kAttentionBlockTokens + 1;
  constexpr int kScoreBlocks = ScoreBlocksFor(kRows);
  constexpr int kValueVectors = ValueVectorsFor(kRows);
  int64_t block = 0;
  for (; block + kScoreBlocks <= blocks; block += kScoreBlocks) {
    ScoreBlocks<kRows, kScoreBlocks>(job, queries, block, blocks, job.scores);
  }
  for (; block < blocks; ++block) {
    ScoreBlocks<kRows, 1>(job, queries, block, blocks, job.scores);
  }
  float sums[kRows];
  for (int r = 0; r < kRows; ++r) {
    sums[r] = Exponentials(job.scores + r * job.score_stride, position + r + 1);
  }
  float* y = job.y + row * job.y_stride;
  int64_t d = 0;
  for (; d + kValueVectors * kLanes <= job.head_dim;
       d += kValueVectors * kLanes) {
    MixValues<kRows, kValueVectors, false>(job, position, job.scores, sums, d,
                                           0, y);
  }
  for (; d + kLanes <= job.head_dim; d += kLanes) {
    MixValues<kRows, 1, false>(job, position, job.scores, sums, d, 0, y);
  }
  if (d < job.head_dim) {
    MixValues<kRows, 1, true>(job, position, job.scores, sums, d,
                              job.head_dim - d, y);
  }
}

inline void Attend(const HeadJob& job) {
  int64_t row = 0;
  for (; row + kTileRows <= job.rows; row += kTileRows) {
    AttendTile<kTileRows>(job, row);
  }
  constexpr int kFewRows = kTileRows / 2;
  for (; kFewRows > 1 && row + kFewRows <= job.rows; row += kFewRows) {
    AttendTile<kFewRows>(job, row);
  }
  for (; row < job.rows; ++row) AttendTile<1>(job, row);
}

}  // namespace ounce::model::OUNCE_VEC

#endif  // OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_IMPL_H_
