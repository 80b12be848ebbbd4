// Dense attention in bfloat16 by TDPBF16PS, 16 rows of queries at a time:
//
//   scores of 32 keys -> ... -> exponentials -> times values of 32 keys -> ...
//
// Packed as bfloat16_attention.h says. Scores are tiles [16
// rows][16 keys] of float32; two of them become, in place, one tile [16
// rows][32 keys] of bfloat16.
#include <immintrin.h>

#include <cstdint>

#include "model/layers/kernels/bfloat16_attention.h"
#include "model/layers/kernels/dense_attention_kernels.h"
#include "quant/kernels/amx_tiles.h"
#include "quant/kernels/vector_math.h"

namespace ounce::model {
namespace {

using OUNCE_VEC::Bits;
using OUNCE_VEC::Exp2;
using OUNCE_VEC::Interleaved;
using OUNCE_VEC::kTile;
using OUNCE_VEC::PackHead;
using OUNCE_VEC::Row32;
using quant::PublishStores;
using quant::vec::Floats;
using quant::vec::Load;
using quant::vec::ReduceAdd;
using quant::vec::ReduceMax;
using quant::vec::StorePart;

constexpr int kRows = 16;
static_assert(kRows <= kDenseTileRows);

struct Tiles {
  std::byte* queries;       // [steps]
  std::byte* scores;        // [2 * blocks]
  const std::byte* keys;    // [2 * blocks][steps]
  const std::byte* values;  // [blocks][columns]
  int64_t blocks;           // of 32 keys
  int64_t steps;            // of 32 columns of queries and keys
  int64_t columns;          // of 16 columns of values
};

// Scores of a block of keys, in turn with two pairs of tile registers, so that
// a block need not wait for the one before.
inline void ScoreBlock(const Tiles& tiles, int64_t block) {
  const int64_t key_tile = tiles.steps * kTile;
  const std::byte* keys = tiles.keys + 2 * block * key_tile;
  std::byte* scores = tiles.scores + 2 * block * kTile;
  if (block % 2 == 0) {
    _tile_zero(0);
    _tile_zero(1);
    for (int64_t at = 0; at < key_tile; at += kTile) {
      _tile_loadd(4, tiles.queries + at, 64);
      _tile_loadd(6, keys + at, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, keys + key_tile + at, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, scores, 64);
    _tile_stored(1, scores + kTile, 64);
  } else {
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t at = 0; at < key_tile; at += kTile) {
      _tile_loadd(4, tiles.queries + at, 64);
      _tile_loadd(6, keys + at, 64);
      _tile_dpbf16ps(2, 4, 6);
      _tile_loadd(7, keys + key_tile + at, 64);
      _tile_dpbf16ps(3, 4, 7);
    }
    _tile_stored(2, scores, 64);
    _tile_stored(3, scores + kTile, 64);
  }
}

// All scores, minus infinity after the last key; and each row's largest.
void Score(const Tiles& tiles, int64_t keys, float largest[kRows]) {
  const float* scores = reinterpret_cast<const float*>(tiles.scores);
  Floats lanes[kRows];
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) lanes[r] = Floats{} - __builtin_inff();
  const auto see = [&](int64_t block) __attribute__((always_inline)) {
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float* row = scores + block * 512 + r * 16;
      lanes[r] =
          _mm512_max_ps(_mm512_max_ps(Load(row), Load(row + 256)), lanes[r]);
    }
  };
  ScoreBlock(tiles, 0);
  for (int64_t block = 1; block < tiles.blocks; ++block) {
    ScoreBlock(tiles, block);
    see(block - 1);
  }
  for (int64_t key = keys; key < tiles.blocks * 32; ++key) {
    float* column =
        reinterpret_cast<float*>(tiles.scores) + key / 16 * 256 + key % 16;
    for (int r = 0; r < kRows; ++r) column[r * 16] = -__builtin_inff();
  }
  see(tiles.blocks - 1);
  for (int r = 0; r < kRows; ++r) largest[r] = ReduceMax(lanes[r]);
}

// Adds a block's weights times two tiles of values, or one, in tile registers 0
// and 1.
inline void MixBlock(const Tiles& tiles, int64_t column, int64_t block) {
  const std::byte* values =
      tiles.values + (block * tiles.columns + column) * kTile;
  _tile_loadd(4, tiles.scores + 2 * block * kTile, 64);
  _tile_loadd(6, values, 64);
  _tile_dpbf16ps(0, 4, 6);
  if (column + 1 < tiles.columns) {
    _tile_loadd(7, values + kTile, 64);
    _tile_dpbf16ps(1, 4, 7);
  }
}

// Scores to exponentials, and their sums, unrounded, by row; and the first two
// tiles of columns mixed.
void MixFirst(const Tiles& tiles, const float largest[kRows],
              float sums[kRows]) {
  float* scores = reinterpret_cast<float*>(tiles.scores);
  Floats lanes[kRows];
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) lanes[r] = Floats{};
  const __m512i half = _mm512_set1_epi32(0x8000);
  _tile_zero(0);
  _tile_zero(1);
  for (int64_t block = 0; block < tiles.blocks; ++block) {
    float* from = scores + block * 512;
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      constexpr float kLog2E = 1.44269504088896341f;
      const Floats a = Exp2((Load(from + r * 16) - largest[r]) * kLog2E);
      const Floats b = Exp2((Load(from + 256 + r * 16) - largest[r]) * kLog2E);
      lanes[r] += a + b;
      // Ties up, which is enough for numbers from 0 to 1.
      _mm512_store_si512(from + r * 16,
                         Interleaved(_mm512_add_epi32(Bits(a), half),
                                     _mm512_add_epi32(Bits(b), half)));
    }
    PublishStores();
    if (block > 0) MixBlock(tiles, 0, block - 1);
  }
  MixBlock(tiles, 0, tiles.blocks - 1);
  for (int r = 0; r < kRows; ++r) sums[r] = ReduceAdd(lanes[r]);
}

void AttendTile(const DenseRowsJob& job, int64_t row, const Tiles& tiles) {
  const int64_t rows = job.rows - row < kRows ? job.rows - row : kRows;
  for (int64_t step = 0; step < tiles.steps; ++step) {
    for (int64_t r = 0; r < kRows; ++r) {
      _mm512_store_si512(
          tiles.queries + step * kTile + r * 64,
          r < rows ? Row32(job.q + (row + r) * job.q_stride + step * 32,
                           job.head_dim - step * 32, job.scale)
                   : _mm512_setzero_si512());
    }
  }
  PublishStores();
  float largest[kRows], sums[kRows];
  Score(tiles, job.keys, largest);
  MixFirst(tiles, largest, sums);
  for (int64_t column = 0; column < tiles.columns; column += 2) {
    if (column > 0) {
      _tile_zero(0);
      _tile_zero(1);
      for (int64_t block = 0; block < tiles.blocks; ++block) {
        MixBlock(tiles, column, block);
      }
    }
    alignas(64) float mixed[2][kRows][16];
    _tile_stored(0, mixed[0], 64);
    _tile_stored(1, mixed[1], 64);
    const int64_t first = column * 16;
    for (int64_t r = 0; r < rows; ++r) {
      float* y = job.y + (row + r) * job.y_stride + first;
      const int64_t count = job.head_dim - first;
      StorePart(Load(mixed[0][r]) / sums[r], y, count);
      if (count > 16) {
        StorePart(Load(mixed[1][r]) / sums[r], y + 16, count - 16);
      }
    }
  }
}

void Attend(const DenseRowsJob& job) {
  const int64_t blocks = (job.keys + 31) / 32;
  const int64_t steps = (job.head_dim + 31) / 32;
  const Tiles tiles = {.queries = job.scratch,
                       .scores = job.scratch + steps * kTile,
                       .keys = job.packed,
                       .values = job.packed + 2 * blocks * steps * kTile,
                       .blocks = blocks,
                       .steps = steps,
                       .columns = (job.head_dim + 15) / 16};
  quant::ConfigureTiles(kRows);
  for (int64_t row = 0; row < job.rows; row += kRows) {
    AttendTile(job, row, tiles);
  }
  // Leaves the thread without tile state, which each switch would have to save.
  _tile_release();
}

}  // namespace

extern constexpr DenseAttentionKernels kDenseAttentionAmx = {PackHead, Attend};

}  // namespace ounce::model
