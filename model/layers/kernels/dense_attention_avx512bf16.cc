// Dense attention in bfloat16 by VDPBF16PS, 12 rows of queries at a time: each
// row's scores of all keys, as floats; which become, in place, exponentials in
// pairs; which multiply the values. Every sum is one chain in ascending order
// of the row's own, so a row does not depend on the others of its tile.
//
// Roofline: 12 rows, 32 keys and 32 columns take 24 VDPBF16PS for each of 16
// pairs of scores and 16 pairs of keys, 384 cycles of two units; their 384
// exponentials, some 25 instructions for 16 of them. All lies in a core's L2
// cache: 109 KB are a head's 850 keys and values. DETR's encoder, 850
// keys in 8 heads: 2.4 ms of one thread, 0.31 TFLOPS, 58 % of what the units
// multiply; in float32 it was 8.5.
#include <immintrin.h>

#include <cstdint>

#include "model/layers/kernels/bfloat16_attention.h"
#include "model/layers/kernels/dense_attention_kernels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::model {
namespace {

using OUNCE_VEC::kTile;
using quant::vec::Floats;
using quant::vec::Load;
using quant::vec::ReduceAdd;
using quant::vec::ReduceMax;
using quant::vec::Store;
using quant::vec::StorePart;

constexpr int kRows = 12;
static_assert(kRows <= kDenseTileRows);

// sums += the products of 16 pairs of each row, `stride` bytes apart, with
// kTiles tiles.
template <int kTiles>
inline void MultiplyPairs(const std::byte* rows, int64_t stride,
                          const std::byte* const (&tiles)[kTiles],
                          Floats (&sums)[kRows][kTiles]) {
  for (int64_t pair = 0; pair < 16; ++pair) {
    __m512i factors[kTiles];
    OUNCE_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      factors[t] = _mm512_loadu_si512(tiles[t] + pair * 64);
    }
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      int both;
      __builtin_memcpy(&both, rows + r * stride + pair * 4, 4);
      const __m512i a = _mm512_set1_epi32(both);
      OUNCE_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        sums[r][t] = _mm512_dpbf16_ps(sums[r][t], reinterpret_cast<__m512bh>(a),
                                      reinterpret_cast<__m512bh>(factors[t]));
      }
    }
  }
}

template <int kTiles>
inline void Clear(Floats (&sums)[kRows][kTiles]) {
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    OUNCE_UNROLL
    for (int t = 0; t < kTiles; ++t) sums[r][t] = Floats{};
  }
}

struct Packed {
  const std::byte* keys;    // [2 * blocks][steps] tiles
  const std::byte* values;  // [blocks][columns] tiles
  int64_t blocks;           // of 32 keys
  int64_t steps;            // of 32 columns of queries and keys
  int64_t columns;          // of 16 columns of values
};

// Of queries [kRows][32 * steps] to scores, `stride` floats from row to row.
void Score(const std::byte* queries, const Packed& packed, float* scores,
           int64_t stride) {
  const int64_t steps = packed.steps;
  for (int64_t block = 0; block < packed.blocks; ++block) {
    Floats sums[kRows][2];
    Clear(sums);
    const std::byte* keys = packed.keys + 2 * block * steps * kTile;
    for (int64_t step = 0; step < steps; ++step) {
      MultiplyPairs<2>(queries + step * 64, steps * 64,
                       {keys + step * kTile, keys + (steps + step) * kTile},
                       sums);
    }
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      Store(sums[r][0], scores + r * stride + block * 32);
      Store(sums[r][1], scores + r * stride + block * 32 + 16);
    }
  }
}

// A row's scores to exponentials, 32 of bfloat16 where 16 scores were; and
// their sum, unrounded.
float Exponentials(int64_t keys, int64_t blocks, float* row) {
  for (int64_t key = keys; key < blocks * 32; ++key) {
    row[key] = -__builtin_inff();
  }
  Floats largest[2] = {Load(row), Load(row + 16)};
  for (int64_t block = 1; block < blocks; ++block) {
    for (int i = 0; i < 2; ++i) {
      largest[i] = _mm512_max_ps(Load(row + block * 32 + i * 16), largest[i]);
    }
  }
  const float offset = ReduceMax(_mm512_max_ps(largest[0], largest[1]));
  constexpr float kLog2E = 1.44269504088896341f;
  const __m512i half = _mm512_set1_epi32(0x8000);
  Floats sums{};
  for (int64_t block = 0; block < blocks; ++block) {
    const float* const from = row + block * 32;
    const Floats a = OUNCE_VEC::Exp2((Load(from) - offset) * kLog2E);
    const Floats b = OUNCE_VEC::Exp2((Load(from + 16) - offset) * kLog2E);
    sums += a + b;
    // Ties up, which is enough for numbers from 0 to 1.
    _mm512_storeu_si512(
        row + block * 16,
        OUNCE_VEC::Interleaved(_mm512_add_epi32(OUNCE_VEC::Bits(a), half),
                               _mm512_add_epi32(OUNCE_VEC::Bits(b), half)));
  }
  return ReduceAdd(sums);
}

// Outputs of kTiles tiles of columns.
template <int kTiles>
void Mix(const DenseRowsJob& job, const Packed& packed, const float* scores,
         int64_t stride, const float* sums, int64_t column, int64_t row,
         int64_t rows) {
  Floats mixed[kRows][kTiles];
  Clear(mixed);
  for (int64_t block = 0; block < packed.blocks; ++block) {
    const std::byte* const values =
        packed.values + (block * packed.columns + column) * kTile;
    const std::byte* tiles[kTiles];
    for (int t = 0; t < kTiles; ++t) tiles[t] = values + t * kTile;
    MultiplyPairs<kTiles>(
        reinterpret_cast<const std::byte*>(scores + block * 16), stride * 4,
        tiles, mixed);
  }
  const int64_t count = job.head_dim - column * 16;
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) break;
    float* y = job.y + (row + r) * job.y_stride + column * 16;
    OUNCE_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      StorePart(mixed[r][t] / sums[r], y + t * 16, count - t * 16);
    }
  }
}

void Attend(const DenseRowsJob& job) {
  const int64_t blocks = (job.keys + 31) / 32;
  const int64_t steps = (job.head_dim + 31) / 32;
  const Packed packed = {.keys = job.packed,
                         .values = job.packed + 2 * blocks * steps * kTile,
                         .blocks = blocks,
                         .steps = steps,
                         .columns = (job.head_dim + 15) / 16};
  std::byte* const queries = job.scratch;
  auto* const scores =
      reinterpret_cast<float*>(queries + kDenseTileRows * steps * 64);
  // 16 more than needed, so that no power of two lies between rows.
  const int64_t stride = blocks * 32 + 16;
  for (int64_t row = 0; row < job.rows; row += kRows) {
    const int64_t rows = job.rows - row < kRows ? job.rows - row : kRows;
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t step = 0; step < steps; ++step) {
        _mm512_storeu_si512(
            queries + (r * steps + step) * 64,
            r < rows
                ? OUNCE_VEC::Row32(job.q + (row + r) * job.q_stride + step * 32,
                                   job.head_dim - step * 32, job.scale)
                : _mm512_setzero_si512());
      }
    }
    Score(queries, packed, scores, stride);
    float sums[kRows];
    for (int r = 0; r < kRows; ++r) {
      sums[r] = Exponentials(job.keys, blocks, scores + r * stride);
    }
    int64_t column = 0;
    for (; column + 1 < packed.columns; column += 2) {
      Mix<2>(job, packed, scores, stride, sums, column, row, rows);
    }
    if (column < packed.columns) {
      Mix<1>(job, packed, scores, stride, sums, column, row, rows);
    }
  }
}

}  // namespace

extern constexpr DenseAttentionKernels kDenseAttentionAvx512Bf16 = {
    OUNCE_VEC::PackHead, Attend};

}  // namespace ounce::model
