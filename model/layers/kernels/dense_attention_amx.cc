// Dense attention in bfloat16 by TDPBF16PS, 16 rows of queries at a time:
//
//   scores of 32 keys -> ... -> exponentials -> times values of 32 keys -> ...
//
// Packed: keys [16 keys][32 columns] as [16 pairs of columns][16 keys][2], then
// values [32 keys][16 columns] as [16 pairs of keys][16 columns][2]: dense
// tiles of 1 KiB, zeros where there is no key or column. Scores are tiles [16
// rows][16 keys] of float32; two of them become, in place, one tile [16
// rows][32 keys] of bfloat16.
#include <immintrin.h>

#include <cstdint>

#include "model/layers/kernels/dense_attention_kernels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::model {
namespace {

using quant::vec::Floats;
using quant::vec::Fma;
using quant::vec::Load;
using quant::vec::LoadPart;
using quant::vec::Max;
using quant::vec::ReduceAdd;
using quant::vec::ReduceMax;
using quant::vec::Store;
using quant::vec::StorePart;

constexpr int64_t kTile = 1024;  // bytes
constexpr int kRows = 16;
static_assert(kRows <= kDenseTileRows);

// The operand of LDTILECFG: eight tiles of 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// What was stored before is there when tiles are loaded after: g++ 12 does not
// know that its intrinsics read memory.
inline void Publish() { asm volatile("" : : : "memory"); }

inline __m512i Bits(Floats value) { return reinterpret_cast<__m512i>(value); }

// To bfloat16 in the upper halves, ties to even; NaN stays NaN.
inline __m512i Rounded(Floats value) {
  const __m512i bits = Bits(value);
  const __m512i odd =
      _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
  const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(rounded, nan, bits,
                              _mm512_set1_epi32(0x00400000));
}

// The upper halves of two vectors, one behind the other.
inline __m512i UpperHalves(__m512i first, __m512i second) {
  alignas(64) static constexpr uint16_t kOdd[32] = {
      1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
      33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16(first, _mm512_load_si512(kOdd), second);
}

// 32 numbers times `scale`, of which `count` are there, in bfloat16.
inline __m512i Row32(const float* x, int64_t count, float scale) {
  const Floats second = count > 16 ? LoadPart(x + 16, count - 16) : Floats{};
  return UpperHalves(Rounded(LoadPart(x, count) * scale),
                     Rounded(second * scale));
}

void PackHead(const DensePackJob& job) {
  const int64_t keys = RoundUpTo(kDenseKeyBlock, job.keys);
  std::byte* tile = job.packed;
  for (int64_t first = 0; first < keys; first += 16) {
    for (int64_t d = 0; d < job.head_dim; d += 32) {
      alignas(64) uint32_t pairs[16][16];
      for (int64_t i = 0; i < 16; ++i) {
        const int64_t key = first + i;
        _mm512_store_si512(pairs[i], key < job.keys
                                         ? Row32(job.k + key * job.k_stride + d,
                                                 job.head_dim - d, 1)
                                         : _mm512_setzero_si512());
      }
      auto* transposed = reinterpret_cast<uint32_t*>(tile);
      for (int64_t i = 0; i < 16; ++i) {
        for (int64_t j = 0; j < 16; ++j) transposed[i * 16 + j] = pairs[j][i];
      }
      tile += kTile;
    }
  }
  for (int64_t first = 0; first < keys; first += 32) {
    for (int64_t d = 0; d < job.head_dim; d += 16) {
      const auto value = [&](int64_t key) {
        return key < job.keys ? Rounded(LoadPart(job.v + key * job.v_stride + d,
                                                 job.head_dim - d))
                              : _mm512_setzero_si512();
      };
      for (int64_t i = 0; i < 16; ++i) {
        const __m512i even = _mm512_srli_epi32(value(first + 2 * i), 16);
        const __m512i odd = value(first + 2 * i + 1);
        _mm512_store_si512(tile + i * 64,
                           _mm512_mask_blend_epi16(0xAAAAAAAA, even, odd));
      }
      tile += kTile;
    }
  }
}

struct Tiles {
  std::byte* queries;       // [steps]
  std::byte* scores;        // [2 * blocks]
  const std::byte* keys;    // [2 * blocks][steps]
  const std::byte* values;  // [blocks][columns]
  int64_t blocks;           // of 32 keys
  int64_t steps;            // of 32 columns of queries and keys
  int64_t columns;          // of 16 columns of values
};

void Score(const Tiles& tiles) {
  const int64_t key_tile = tiles.steps * kTile;
  for (int64_t block = 0; block < tiles.blocks; ++block) {
    const std::byte* keys = tiles.keys + 2 * block * key_tile;
    std::byte* scores = tiles.scores + 2 * block * kTile;
    // In turn, so that a block need not wait for the one before.
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
}

// 2^x for x <= 0, within 4e-6 of itself; NaN for NaN.
inline Floats Exp2(Floats x) {
  // x = n + r, 0 <= r < 1, and a polynomial for 2^r.
  const Floats r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
  Floats p = Fma(Floats{} + 0.0135341672f, r, Floats{} + 0.0520114619f);
  p = Fma(p, r, Floats{} + 0.241442756f);
  p = Fma(p, r, Floats{} + 0.693003835f);
  p = Fma(p, r, Floats{} + 1.00000259f);
  return _mm512_scalef_ps(p, x);
}

// Scores to exponentials; their sums, unrounded, by row.
void Exponentials(const Tiles& tiles, int64_t keys, float sums[kRows]) {
  float* scores = reinterpret_cast<float*>(tiles.scores);
  for (int64_t key = keys; key < tiles.blocks * 32; ++key) {
    for (int r = 0; r < kRows; ++r) {
      scores[key / 16 * 256 + r * 16 + key % 16] = -__builtin_inff();
    }
  }
  Floats largest[kRows];
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) largest[r] = Load(scores + r * 16);
  for (int64_t tile = 1; tile < 2 * tiles.blocks; ++tile) {
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      largest[r] =
          _mm512_max_ps(Load(scores + tile * 256 + r * 16), largest[r]);
    }
  }
  float offsets[kRows];
  for (int r = 0; r < kRows; ++r) offsets[r] = ReduceMax(largest[r]);

  Floats sum[kRows];
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) sum[r] = Floats{};
  const __m512i half = _mm512_set1_epi32(0x8000);
  for (int64_t block = 0; block < tiles.blocks; ++block) {
    float* from = scores + block * 512;
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      constexpr float kLog2E = 1.44269504088896341f;
      const Floats a = Exp2((Load(from + r * 16) - offsets[r]) * kLog2E);
      const Floats b = Exp2((Load(from + 256 + r * 16) - offsets[r]) * kLog2E);
      sum[r] += a + b;
      // Ties up, which is enough for numbers from 0 to 1.
      _mm512_store_si512(from + r * 16,
                         UpperHalves(_mm512_add_epi32(Bits(a), half),
                                     _mm512_add_epi32(Bits(b), half)));
    }
  }
  for (int r = 0; r < kRows; ++r) sums[r] = ReduceAdd(sum[r]);
}

// Of two tiles of columns, or one: sums over even and over odd blocks.
struct alignas(64) Mixed {
  float even[2][kRows][16];
  float odd[2][kRows][16];
};

void MixTwo(const Tiles& tiles, int64_t column, Mixed& mixed) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t block = 0; block < tiles.blocks; block += 2) {
    const std::byte* weights = tiles.scores + 2 * block * kTile;
    const std::byte* values =
        tiles.values + (block * tiles.columns + column) * kTile;
    _tile_loadd(4, weights, 64);
    _tile_loadd(6, values, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, values + kTile, 64);
    _tile_dpbf16ps(1, 4, 7);
    if (block + 1 == tiles.blocks) break;
    values += tiles.columns * kTile;
    _tile_loadd(5, weights + 2 * kTile, 64);
    _tile_loadd(6, values, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_loadd(7, values + kTile, 64);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, mixed.even[0], 64);
  _tile_stored(1, mixed.even[1], 64);
  _tile_stored(2, mixed.odd[0], 64);
  _tile_stored(3, mixed.odd[1], 64);
}

void MixOne(const Tiles& tiles, int64_t column, Mixed& mixed) {
  _tile_zero(0);
  _tile_zero(2);
  for (int64_t block = 0; block < tiles.blocks; block += 2) {
    const std::byte* weights = tiles.scores + 2 * block * kTile;
    const std::byte* values =
        tiles.values + (block * tiles.columns + column) * kTile;
    _tile_loadd(4, weights, 64);
    _tile_loadd(6, values, 64);
    _tile_dpbf16ps(0, 4, 6);
    if (block + 1 == tiles.blocks) break;
    _tile_loadd(5, weights + 2 * kTile, 64);
    _tile_loadd(7, values + tiles.columns * kTile, 64);
    _tile_dpbf16ps(2, 5, 7);
  }
  _tile_stored(0, mixed.even[0], 64);
  _tile_stored(2, mixed.odd[0], 64);
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
  Publish();
  Score(tiles);
  float sums[kRows];
  Exponentials(tiles, job.keys, sums);
  Publish();
  for (int64_t column = 0; column < tiles.columns; column += 2) {
    Mixed mixed;
    const int64_t count = column + 1 < tiles.columns ? 2 : 1;
    (count == 2 ? MixTwo : MixOne)(tiles, column, mixed);
    for (int64_t c = 0; c < count; ++c) {
      const int64_t d = (column + c) * 16;
      for (int64_t r = 0; r < rows; ++r) {
        StorePart((Load(mixed.even[c][r]) + Load(mixed.odd[c][r])) / sums[r],
                  job.y + (row + r) * job.y_stride + d, job.head_dim - d);
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
  TileConfig config;
  // g++ 12 takes only eight bytes of the operand for read, and would drop the
  // other stores.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
  for (int64_t row = 0; row < job.rows; row += kRows) {
    AttendTile(job, row, tiles);
  }
  // Leaves the thread without tile state, which each switch would have to save.
  _tile_release();
}

}  // namespace

extern constexpr DenseAttentionKernels kDenseAttentionAmx = {PackHead, Attend};

}  // namespace ounce::model
