// Dense attention in float32, with the roundings to bfloat16 if they are
// wanted: written once, compiled per instruction set, without contraction.
//
// Packed: keys [panel of 16][head_dim][16 keys], zeros after the last key; then
// values [keys][head_dim rounded up to 16], zeros after the last column.
#ifndef OUNCE_MODEL_LAYERS_KERNELS_DENSE_ATTENTION_IMPL_H_
#define OUNCE_MODEL_LAYERS_KERNELS_DENSE_ATTENTION_IMPL_H_

#include <cstdint>

#include "model/layers/kernels/dense_attention_kernels.h"
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
using quant::vec::RoundedToBFloat16;
using quant::vec::Set;
using quant::vec::Store;
using quant::vec::StorePart;

inline constexpr int kPanel = 16;
inline constexpr int kPanelVectors = kPanel / kLanes;

// Tiles whose sums fit the registers, with one operand of each kind.
inline constexpr int kRows = kLanes == 16 ? 8 : kLanes == 8 ? 6 : 2;
inline constexpr int kScorePanels = kLanes == 16 ? 3 : 1;
inline constexpr int kValuePanels = kLanes == 16 ? 2 : 1;
static_assert(kRows <= kDenseTileRows);

// Subtracting zero changes no value, so that this is a broadcast and no
// arithmetic.
inline Floats Broadcast(float value) { return value - Floats{}; }

inline Floats Rounded(Floats value, bool bfloat16) {
  return bfloat16 ? reinterpret_cast<Floats>(RoundedToBFloat16(value)) : value;
}

// Of numbers from 0 to 1, where ties may go up.
inline Floats RoundedExponential(Floats value, bool bfloat16) {
  const Ints bits = (reinterpret_cast<Ints>(value) + 0x8000) & ~0xFFFF;
  return bfloat16 ? reinterpret_cast<Floats>(bits) : value;
}

inline void PackHead(const DensePackJob& job) {
  float* packed = reinterpret_cast<float*>(job.packed);
  const int64_t head_dim = job.head_dim;
  for (int64_t first = 0; first < job.keys; first += kPanel) {
    for (int64_t i = 0; i < kPanel; ++i) {
      const bool there = first + i < job.keys;
      const float* k = job.k + (first + i) * job.k_stride;
      for (int64_t d = 0; d < head_dim; d += kLanes) {
        const Floats part =
            there ? Rounded(LoadPart(k + d, head_dim - d), job.bfloat16)
                  : Floats{};
        for (int lane = 0; lane < kLanes && d + lane < head_dim; ++lane) {
          packed[(d + lane) * kPanel + i] = part[lane];
        }
      }
    }
    packed += head_dim * kPanel;
  }
  for (int64_t key = 0; key < job.keys; ++key) {
    const float* v = job.v + key * job.v_stride;
    for (int64_t d = 0; d < RoundUpTo(kPanel, head_dim); d += kLanes) {
      Store(Rounded(LoadPart(v + d, head_dim - d), job.bfloat16), packed);
      packed += kLanes;
    }
  }
}

// The larger one.
inline Floats Larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#else
  return Max(a, b);
#endif
}

// e^x for x <= 0, within 3e-7 of 1; NaN for NaN.
inline Floats ExpOfNegative(Floats x) {
#if defined(__AVX512F__)
  // 2^n 2^r with 0 <= r < 1. The rounding of x log2(e) grows with |x|, less
  // than e^x shrinks.
  const Floats power = x * 1.44269504088896341f;
  const Floats r = _mm512_reduce_ps(power, _MM_FROUND_TO_NEG_INF);
  Floats p = Fma(Set(0.000216129151f), r, Set(0.00124678464f));
  p = Fma(p, r, Set(0.00967545157f));
  p = Fma(p, r, Set(0.0554852806f));
  p = Fma(p, r, Set(0.240229306f));
  p = Fma(p, r, Set(0.693147044f));
  p = Fma(p, r, Set(1.0f));
  return _mm512_scalef_ps(p, power);
#else
  return Exp(x);
#endif
}

// Scores of a tile's queries against kPanels panels of keys.
template <int kPanels>
inline void ScorePanels(const float* queries, const float* keys,
                        int64_t head_dim, float* scores, int64_t stride) {
  constexpr int kVectors = kPanels * kPanelVectors;
  Floats sums[kRows][kVectors];
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[r][v] = Floats{};
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    Floats k[kVectors];
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      k[v] = Load(keys + (v / kPanelVectors * head_dim + d) * kPanel +
                  v % kPanelVectors * kLanes);
    }
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const Floats q = Broadcast(queries[r * head_dim + d]);
      OUNCE_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[r][v] = Fma(q, k[v], sums[r][v]);
    }
  }
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      Store(sums[r][v], scores + r * stride + v * kLanes);
    }
  }
}

// Scores of a tile's rows to e^(score - largest of the row), zeros from `keys`
// to the end of the panel. Sums, unrounded, by row.
inline void Exponentials(float* scores, int64_t stride, int64_t keys,
                         bool bfloat16, float sums[kRows]) {
  const int64_t end = RoundUpTo(kPanel, keys);
  for (int r = 0; r < kRows; ++r) {
    for (int64_t i = keys; i < end; ++i) {
      scores[r * stride + i] = -__builtin_inff();
    }
  }
  Floats largest[kRows];
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) largest[r] = Load(scores + r * stride);
  for (int64_t i = kLanes; i < end; i += kLanes) {
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      largest[r] = Larger(Load(scores + r * stride + i), largest[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* row = scores + r * stride;
    const Floats offset = Broadcast(ReduceMax(largest[r]));
    Floats sum[2] = {};
    const auto make = [&](int64_t i) {
      const Floats e = ExpOfNegative(Load(row + i) - offset);
      Store(RoundedExponential(e, bfloat16), row + i);
      return e;
    };
    int64_t i = 0;
    for (; i + 2 * kLanes <= end; i += 2 * kLanes) {
      sum[0] += make(i);
      sum[1] += make(i + kLanes);
    }
    if (i < end) sum[0] += make(i);
    sums[r] = ReduceAdd(sum[0] + sum[1]);
  }
}

// Outputs [d, d + kPanels * kPanel) of `rows` rows.
template <int kPanels>
inline void MixValues(const DenseRowsJob& job, const float* scores,
                      int64_t stride, const float* values, const float* sums,
                      int64_t d, float* y, int64_t rows) {
  constexpr int kVectors = kPanels * kPanelVectors;
  const int64_t columns = RoundUpTo(kPanel, job.head_dim);
  Floats mixed[kRows][kVectors];
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) mixed[r][v] = Floats{};
  }
  for (int64_t key = 0; key < job.keys; ++key) {
    Floats x[kVectors];
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      x[v] = Load(values + key * columns + d + v * kLanes);
    }
    OUNCE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const Floats p = Broadcast(scores[r * stride + key]);
      OUNCE_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        mixed[r][v] = Fma(p, x[v], mixed[r][v]);
      }
    }
  }
  OUNCE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) break;
    const Floats sum = Broadcast(sums[r]);
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = d + v * kLanes;
      if (at < job.head_dim) {
        StorePart(mixed[r][v] / sum, y + r * job.y_stride + at,
                  job.head_dim - at);
      }
    }
  }
}

inline void AttendTile(const DenseRowsJob& job, int64_t row) {
  const int64_t head_dim = job.head_dim;
  const int64_t rows = job.rows - row < kRows ? job.rows - row : kRows;
  float* queries = reinterpret_cast<float*>(job.scratch);
  for (int64_t r = 0; r < kRows; ++r) {
    const float* q = job.q + (row + r) * job.q_stride;
    for (int64_t d = 0; d < head_dim; d += kLanes) {
      const Floats part =
          r < rows ? LoadPart(q + d, head_dim - d) * job.scale : Floats{};
      StorePart(Rounded(part, job.bfloat16), queries + r * head_dim + d,
                head_dim - d);
    }
  }

  const float* packed = reinterpret_cast<const float*>(job.packed);
  const int64_t panels = (job.keys + kPanel - 1) / kPanel;
  float* scores = queries + RoundUpTo(kPanel, kRows * head_dim);
  // One panel more than needed, so that no power of two lies between rows.
  const int64_t stride = (panels + 1) * kPanel;
  int64_t panel = 0;
  for (; panel + kScorePanels <= panels; panel += kScorePanels) {
    ScorePanels<kScorePanels>(queries, packed + panel * head_dim * kPanel,
                              head_dim, scores + panel * kPanel, stride);
  }
  for (; panel < panels; ++panel) {
    ScorePanels<1>(queries, packed + panel * head_dim * kPanel, head_dim,
                   scores + panel * kPanel, stride);
  }
  float sums[kRows];
  Exponentials(scores, stride, job.keys, job.bfloat16, sums);
  const float* values = packed + panels * head_dim * kPanel;
  float* y = job.y + row * job.y_stride;
  int64_t d = 0;
  for (; d + (kValuePanels - 1) * kPanel < head_dim;
       d += kValuePanels * kPanel) {
    MixValues<kValuePanels>(job, scores, stride, values, sums, d, y, rows);
  }
  for (; d < head_dim; d += kPanel) {
    MixValues<1>(job, scores, stride, values, sums, d, y, rows);
  }
}

inline void Attend(const DenseRowsJob& job) {
  for (int64_t row = 0; row < job.rows; row += kRows) AttendTile(job, row);
}

}  // namespace ounce::model::OUNCE_VEC

#endif  // OUNCE_MODEL_LAYERS_KERNELS_DENSE_ATTENTION_IMPL_H_
