// Written once, compiled per instruction set, without contraction (every fused
// multiply-add is spelled out), so that an output's operations are the same in
// every tile shape.
#ifndef OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_IMPL_H_
#define OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_IMPL_H_

#include <cstdint>

#include "model/layers/kernels/layer_kernels.h"
#include "quant/kernels/bfloat16_math.h"
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

// Error: at most 2e-7 relative; NaN for NaN.
inline Floats Tanh(Floats x) {
  const Floats size = Select(x < Floats{}, -x, x);
  const Floats z = x * x;
  Floats p = Set(-5.70498872745e-3f);
  p = Fma(p, z, Set(2.06390887954e-2f));
  p = Fma(p, z, Set(-5.37397155531e-2f));
  p = Fma(p, z, Set(1.33314422036e-1f));
  p = Fma(p, z, Set(-3.33332819422e-1f));
  const Floats small = Fma(p * z, x, x);
  const Floats large = 1.0f - 2.0f / (Exp(size + size) + 1.0f);
  return Select(size < Set(0.625f), small, Select(x < Floats{}, -large, large));
}

// (x - mean) * scale * weight + bias.
inline void ScaleRow(const float* x, Floats mean, Floats scale,
                     const float* weight, const float* bias, int64_t cols,
                     float* y) {
  for (int64_t col = 0; col < cols; col += kLanes) {
    const int64_t left = cols - col;
    Floats normal = (LoadPart(x + col, left) - mean) * scale;
    if (bias != nullptr) {
      const Floats w =
          weight != nullptr ? LoadPart(weight + col, left) : Set(1.0f);
      normal = Fma(normal, w, LoadPart(bias + col, left));
    } else if (weight != nullptr) {
      normal *= LoadPart(weight + col, left);
    }
    StorePart(normal, y + col, left);
  }
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
  ScaleRow(x, mean, scale, weight, bias, cols, y);
}

inline void RmsNormRow(const float* x, const float* weight, const float* bias,
                       int64_t cols, float epsilon, float* y) {
  Floats squares{};
  for (int64_t col = 0; col < cols; col += kLanes) {
    const Floats part = LoadPart(x + col, cols - col);
    squares = Fma(part, part, squares);
  }
  const float mean = ReduceAdd(squares) / static_cast<float>(cols);
  const Floats scale = Set(1.0f / __builtin_sqrtf(mean + epsilon));
  ScaleRow(x, Floats{}, scale, weight, bias, cols, y);
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

// What elements of a KvType are to kernels: floats, times a scale of their key
// or value where they have one. LoadPart: the first `count`.
struct FloatKv {
  using Element = float;
  static constexpr bool kScaled = false;
  static Floats Load(const float* from) { return quant::vec::Load(from); }
  static Floats LoadPart(const float* from, int64_t count) {
    return quant::vec::LoadPart(from, count);
  }
};
struct BFloat16Kv {
  using Element = uint16_t;
  static constexpr bool kScaled = false;
  static Floats Load(const uint16_t* from) {
    return quant::vec::LoadBFloat16(from);
  }
  static Floats LoadPart(const uint16_t* from, int64_t count) {
    return quant::vec::LoadBFloat16Part(from, count);
  }
};
struct Int8Kv {
  using Element = int8_t;
  static constexpr bool kScaled = true;
  static Floats Load(const int8_t* from) {
#if defined(__AVX512F__)
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#elif defined(__AVX2__) && defined(__FMA__)
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
    Floats result;
    for (int i = 0; i < kLanes; ++i) result[i] = from[i];
    return result;
#endif
  }
  static Floats LoadPart(const int8_t* from, int64_t count) {
    int8_t elements[kLanes] = {};
    __builtin_memcpy(elements, from, count);
    return Load(elements);
  }
};

// Elements of a line of the CPU's cache, in vectors.
template <class Kv>
constexpr int kVectorsPerLine =
    64 / (kLanes * static_cast<int>(sizeof(typename Kv::Element)));

template <class Kv>
inline const typename Kv::Element* Keys(const AttendJob& job, int64_t block) {
  return reinterpret_cast<const typename Kv::Element*>(
      job.kv + job.blocks[block] * job.block_stride);
}
template <class Kv>
inline const typename Kv::Element* Values(const AttendJob& job, int64_t block) {
  return Keys<Kv>(job, block) + job.head_dim * kAttentionBlockTokens;
}
template <class Kv>
inline const typename Kv::Element* ValueAt(const AttendJob& job,
                                           int64_t position) {
  return Values<Kv>(job, position / kAttentionBlockTokens) +
         position % kAttentionBlockTokens * job.head_dim;
}
// Of a block's keys; of its values 16 further.
template <class Kv>
inline const float* Scales(const AttendJob& job, int64_t block) {
  return reinterpret_cast<const float*>(
      Keys<Kv>(job, block) + 2 * job.head_dim * kAttentionBlockTokens);
}

// Some queries that are attended together: by token, then by head, so that no
// row sees less than the one before it, nor begins earlier. Row r sees
// positions [begin[r], end[r]).
template <int kRows>
struct Tile {
  const float* query[kRows];
  const float* bias[kRows];  // if the job has one
  float* y[kRows];
  int64_t begin[kRows];
  int64_t end[kRows];
  float sum[kRows];  // of the exponentials
};

// Those from `head` of `token` on.
template <int kRows>
inline Tile<kRows> MakeTile(const AttendJob& job, int64_t token, int64_t head) {
  Tile<kRows> tile;
  for (int r = 0; r < kRows; ++r) {
    const int64_t h = job.heads[head];
    const int64_t end = job.position + token + 1;
    const bool cut = job.window > 0 && end > job.window;
    tile.query[r] =
        job.queries + token * job.query_stride + job.query_columns[h];
    tile.bias[r] = job.position_bias == nullptr
                       ? nullptr
                       : job.position_bias + h * job.position_bias_stride;
    tile.y[r] = job.y + token * job.y_stride + h * job.head_dim;
    tile.begin[r] = cut ? end - job.window : 0;
    tile.end[r] = end;
    if (++head == job.num_heads) {
      head = 0;
      ++token;
    }
  }
  return tile;
}

// Few rows wait for memory: the hardware's prefetcher stops at the end of each
// block's page.
constexpr bool Prefetches(int rows) { return rows <= 4; }

// Scores of the tile against kBlocks blocks.
template <class Kv, int kRows, int kBlocks>
inline void ScoreBlocks(const AttendJob& job, const Tile<kRows>& tile,
                        int64_t first_block, int64_t num_blocks) {
  constexpr int kVectors = kBlocks * kBlockVectors;
  const typename Kv::Element* keys[kBlocks];
  const typename Kv::Element* ahead[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    keys[b] = Keys<Kv>(job, first_block + b);
    const int64_t next = first_block + kBlocks + b;
    ahead[b] = next < num_blocks ? Keys<Kv>(job, next) : keys[b];
  }
  const float* query[kRows];
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) query[r] = tile.query[r];
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
      k[v] = Kv::Load(keys[v / kBlockVectors] + d * kAttentionBlockTokens +
                      v % kBlockVectors * kLanes);
    }
    constexpr int64_t kRowsPerLine =
        64 / (kAttentionBlockTokens * sizeof(typename Kv::Element));
    if (Prefetches(kRows) && d % kRowsPerLine == 0) {
      OUNCE_UNROLL
      for (int b = 0; b < kBlocks; ++b) {
        __builtin_prefetch(ahead[b] + d * kAttentionBlockTokens);
      }
    }
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const Floats q = Set(query[r][d]);
      OUNCE_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[r][v] = Fma(q, k[v], sums[r][v]);
    }
  }
  const Floats divisor = Set(job.score_divisor);
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (Kv::kScaled) {
        sums[r][v] *= Load(Scales<Kv>(job, first_block + v / kBlockVectors) +
                           v % kBlockVectors * kLanes);
      }
      Store(sums[r][v] / divisor, job.scores + r * job.score_stride +
                                      first_block * kAttentionBlockTokens +
                                      v * kLanes);
    }
  }
}

inline Floats Capped(Floats x, Floats cap) { return cap * Tanh(x / cap); }

inline void SoftCap(float* x, int64_t count, float cap) {
  for (int64_t i = 0; i < count; i += kLanes) {
    StorePart(Capped(LoadPart(x + i, count - i), Set(cap)), x + i, count - i);
  }
}

// Caps scores [begin, end) and adds what their positions are worth.
inline void AdjustScores(const AttendJob& job, const float* bias, int64_t begin,
                         int64_t end, float* scores) {
  const Floats cap = Set(job.soft_cap);
  for (int64_t i = begin / kLanes * kLanes; i < end; i += kLanes) {
    Floats score = Load(scores + i);
    if (job.soft_cap != 0) score = Capped(score, cap);
    if (job.position_bias != nullptr) score += LoadPart(bias + i, end - i);
    Store(score, scores + i);
  }
}

// scores[begin, end) to e^(score - largest); the others of the first and the
// last vector to zero. Returns their sum.
inline float Exponentials(float* scores, int64_t begin, int64_t end) {
  const Floats nothing = Set(-__builtin_inff());
  const int64_t first = begin / kLanes * kLanes;
  if (first < begin) {
    Store(Select(FirstLanes(begin - first), nothing, Load(scores + first)),
          scores + first);
  }
  if (const int64_t rest = end % kLanes; rest != 0) {
    float* last = scores + end - rest;
    Store(Select(FirstLanes(rest), Load(last), nothing), last);
  }
  Floats largest = nothing;
  for (int64_t i = first; i < end; i += kLanes) {
    largest = Max(Load(scores + i), largest);
  }
  const Floats offset = Set(ReduceMax(largest));
  Floats sums{};
  for (int64_t i = first; i < end; i += kLanes) {
    const Floats e = Exp(Load(scores + i) - offset);
    Store(e, scores + i);
    sums += e;
  }
  return ReduceAdd(sums);
}

// scores[begin, end) times the scales of their values. (What the others of the
// first and last vector become is never read.)
template <class Kv>
inline void ScaleByValues(const AttendJob& job, int64_t begin, int64_t end,
                          float* scores) {
  for (int64_t i = begin / kLanes * kLanes; i < end; i += kLanes) {
    const Floats scales =
        Load(Scales<Kv>(job, i / kAttentionBlockTokens) +
             kAttentionBlockTokens + i % kAttentionBlockTokens);
    Store(Load(scores + i) * scales, scores + i);
  }
}

// Outputs [d, d + kVectors * kLanes) of the tile; only `count` of them if
// kPart.
template <class Kv, int kRows, int kVectors, bool kPart>
inline void MixValues(const AttendJob& job, const Tile<kRows>& tile, int64_t d,
                      int64_t count) {
  Floats mixed[kRows][kVectors];
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) mixed[r][v] = Floats{};
  }
  const auto load = [&](const typename Kv::Element* value, Floats* x)
      __attribute__((always_inline)) {
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      x[v] = kPart ? Kv::LoadPart(value + d, count)
                   : Kv::Load(value + d + v * kLanes);
    }
  };
  const auto add = [&](const Floats* x, int64_t at, int r)
      __attribute__((always_inline)) {
    const Floats p = Set(job.scores[r * job.score_stride + at]);
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) mixed[r][v] = Fma(p, x[v], mixed[r][v]);
  };
  // Positions that some rows see.
  const auto add_to_some = [&](int64_t first, int64_t last)
      __attribute__((always_inline)) {
    for (int64_t at = first; at < last; ++at) {
      Floats x[kVectors];
      load(ValueAt<Kv>(job, at), x);
      OUNCE_UNROLL
      for (int r = 0; r < kRows; ++r) {
        if (at >= tile.begin[r] && at < tile.end[r]) add(x, at, r);
      }
    }
  };

  // What the earlier rows see, what all do, and what the later ones do.
  const int64_t common = tile.begin[kRows - 1];
  const int64_t common_end = common < tile.end[0] ? tile.end[0] : common;
  if (kRows > 1) add_to_some(tile.begin[0], common);
  for (int64_t first = common; first < common_end;) {
    const int64_t block = first / kAttentionBlockTokens;
    const int64_t begin = first % kAttentionBlockTokens;
    const int64_t left = common_end - first + begin;
    const int64_t end =
        left < kAttentionBlockTokens ? left : kAttentionBlockTokens;
    const typename Kv::Element* values = Values<Kv>(job, block);
    const typename Kv::Element* ahead =
        left > kAttentionBlockTokens ? Values<Kv>(job, block + 1) : values;
    for (int64_t i = begin; i < end; ++i) {
      if (Prefetches(kRows)) {
        for (int v = 0; v < kVectors; v += kVectorsPerLine<Kv>) {
          __builtin_prefetch(ahead + i * job.head_dim + d + v * kLanes);
        }
      }
      Floats x[kVectors];
      load(values + i * job.head_dim, x);
      OUNCE_UNROLL
      for (int r = 0; r < kRows; ++r) add(x, first - begin + i, r);
    }
    first += end - begin;
  }
  if (kRows > 1 && job.num_heads == 1 && common == 0) {
    // One more position for each row, so that all is known but where.
    OUNCE_UNROLL
    for (int first = 1; first < kRows; ++first) {
      const int64_t at = common_end + first - 1;
      Floats x[kVectors];
      load(ValueAt<Kv>(job, at), x);
      OUNCE_UNROLL
      for (int r = first; r < kRows; ++r) add(x, at, r);
    }
  } else if (kRows > 1) {
    add_to_some(common_end, tile.end[kRows - 1]);
  }

  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const Floats sum = Set(tile.sum[r]);
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      float* out = tile.y[r] + d + v * kLanes;
      if (kPart) {
        StorePart(mixed[r][v] / sum, out, count);
      } else {
        Store(mixed[r][v] / sum, out);
      }
    }
  }
}

template <class Kv, int kRows>
inline void AttendTile(const AttendJob& job, int64_t row) {
  Tile<kRows> tile =
      MakeTile<kRows>(job, row / job.num_heads, row % job.num_heads);
  const int64_t blocks = (tile.end[kRows - 1] - 1) / kAttentionBlockTokens + 1;
  constexpr int kScoreBlocks = ScoreBlocksFor(kRows);
  constexpr int kValueVectors = ValueVectorsFor(kRows);
  int64_t block = tile.begin[0] / kAttentionBlockTokens;
  for (; block + kScoreBlocks <= blocks; block += kScoreBlocks) {
    ScoreBlocks<Kv, kRows, kScoreBlocks>(job, tile, block, blocks);
  }
  for (; block < blocks; ++block) {
    ScoreBlocks<Kv, kRows, 1>(job, tile, block, blocks);
  }
  for (int r = 0; r < kRows; ++r) {
    float* scores = job.scores + r * job.score_stride;
    if (job.soft_cap != 0 || job.position_bias != nullptr) {
      AdjustScores(job, tile.bias[r], tile.begin[r], tile.end[r], scores);
    }
    tile.sum[r] = Exponentials(scores, tile.begin[r], tile.end[r]);
    if constexpr (Kv::kScaled) {
      ScaleByValues<Kv>(job, tile.begin[r], tile.end[r], scores);
    }
  }
  int64_t d = 0;
  for (; d + kValueVectors * kLanes <= job.head_dim;
       d += kValueVectors * kLanes) {
    MixValues<Kv, kRows, kValueVectors, false>(job, tile, d, 0);
  }
  for (; d + kLanes <= job.head_dim; d += kLanes) {
    MixValues<Kv, kRows, 1, false>(job, tile, d, 0);
  }
  if (d < job.head_dim) {
    MixValues<Kv, kRows, 1, true>(job, tile, d, job.head_dim - d);
  }
}

template <class Kv>
inline void AttendAll(const AttendJob& job) {
  const int64_t rows = job.tokens * job.num_heads;
  int64_t row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) {
    AttendTile<Kv, kTileRows>(job, row);
  }
  if constexpr (kTileRows == 8) {
    if (row + 4 <= rows) {
      AttendTile<Kv, 4>(job, row);
      row += 4;
    }
    if (row + 3 == rows) return AttendTile<Kv, 3>(job, row);
    if (row + 2 == rows) return AttendTile<Kv, 2>(job, row);
  }
  if (row < rows) AttendTile<Kv, 1>(job, row);
}

inline void Attend(const AttendJob& job) {
  switch (job.kv_type) {
    case KvType::kFloat32:
      return AttendAll<FloatKv>(job);
    case KvType::kBFloat16:
      return AttendAll<BFloat16Kv>(job);
    case KvType::kInt8:
      return AttendAll<Int8Kv>(job);
  }
}

// x[i] <- x[i ^ kStep], by lane.
template <int kStep>
inline Floats Swapped(Floats x) {
#if defined(__AVX512F__)
  const __m512i from = _mm512_xor_si512(
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
      _mm512_set1_epi32(kStep));
  return _mm512_permutexvar_ps(from, x);
#elif defined(__AVX2__) && defined(__FMA__)
  const __m256i from = _mm256_xor_si256(
      _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(kStep));
  return _mm256_permutevar8x32_ps(x, from);
#else
  Floats result;
  for (int i = 0; i < kLanes; ++i) result[i] = x[i ^ kStep];
  return result;
#endif
}

// Sums and differences of lanes kStep apart, where a vector has such.
template <int kStep>
inline Floats Butterfly(Floats x) {
  if constexpr (kStep < kLanes) {
    Ints is_second;
    for (int i = 0; i < kLanes; ++i) is_second[i] = (i & kStep) != 0 ? -1 : 0;
    return Swapped<kStep>(x) + Select(is_second, -x, x);
  }
  return x;
}

inline void Rotate(float* x, int64_t dim) {
  const int64_t size = dim & -dim;
  const float length = 1.0f / __builtin_sqrtf(static_cast<float>(size));
  for (float* piece = x; piece < x + dim; piece += size) {
    int64_t step = 1;
    if (size >= kLanes) {
      for (int64_t i = 0; i < size; i += kLanes) {
        Floats part = Load(piece + i);
        part = Butterfly<1>(part);
        part = Butterfly<2>(part);
        part = Butterfly<4>(part);
        part = Butterfly<8>(part);
        Store(part, piece + i);
      }
      step = kLanes;
    }
    for (; step < size; step *= 2) {
      for (int64_t i = 0; i < size; i += 2 * step) {
        for (int64_t j = i; j < i + step; ++j) {
          const float a = piece[j], b = piece[j + step];
          piece[j] = a + b;
          piece[j + step] = a - b;
        }
      }
    }
    for (int64_t i = 0; i < size; ++i) piece[i] *= length;
  }
}

inline float RoundToBytes(const float* x, int64_t dim, int8_t* codes) {
  Floats largest{}, broken{};
  for (int64_t d = 0; d < dim; d += kLanes) {
    const Floats part = LoadPart(x + d, dim - d);
    largest = Max(Select(part < Floats{}, -part, part), largest);
    broken += part * 0.0f;  // NaN for NaN and infinity
  }
  const float most = ReduceMax(largest);
  const bool is_broken = ReduceAdd(broken) != 0 || !(most < __builtin_inff());
  // Below that the reciprocal would be infinite: as good as zeros.
  const bool is_zero = most < 0x1p-100f;
  if (is_broken || is_zero) {
    for (int64_t d = 0; d < dim; ++d) codes[d] = 0;
    return is_broken ? __builtin_nanf("") : 0;
  }
  const Floats inverse = Set(127.0f / most);
  for (int64_t d = 0; d < dim; d += kLanes) {
    const int64_t count = dim - d < kLanes ? dim - d : kLanes;
    const Floats rounded =
        quant::vec::Round(LoadPart(x + d, dim - d) * inverse);
#if defined(__AVX512F__)
    _mm512_mask_cvtepi32_storeu_epi8(codes + d,
                                     static_cast<__mmask16>((1u << count) - 1),
                                     _mm512_cvtps_epi32(rounded));
#else
    for (int64_t i = 0; i < count; ++i) {
      codes[d + i] = static_cast<int8_t>(rounded[i]);
    }
#endif
  }
  return most / 127.0f;
}

}  // namespace ounce::model::OUNCE_VEC

#endif  // OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_IMPL_H_
