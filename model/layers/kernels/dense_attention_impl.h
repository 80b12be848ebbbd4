// Dense attention in float32, with the roundings to bfloat16 if they are
// wanted: written once, compiled per instruction set, without contraction.
//
// Packed: keys [panel of 16][head_dim][16 keys], zeros after the last key; then
// values [keys][head_dim rounded up to 16], zeros after the last column.
#ifndef OUNCE_MODEL_LAYERS_KERNELS_DENSE_ATTENTION_IMPL_H_
#define OUNCE_MODEL_LAYERS_KERNELS_DENSE_ATTENTION_IMPL_H_

#include <cstdint>

#include "model/layers/kernels/dense_attention_kernels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::model::OUNCE_VEC {

using quant::vec::Exp;
using quant::vec::Floats;
using quant::vec::Fma;
using quant::vec::Ints;
using quant::vec::kLanes;
using quant::vec::Load;
using quant::vec::Max;
using quant::vec::ReduceAdd;
using quant::vec::ReduceMax;
using quant::vec::Select;
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

// To the nearest bfloat16, ties to even; NaN stays NaN.
inline float RoundToBfloat16(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  const uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000;
  bits = value != value ? bits | 0x00400000 : rounded;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

// The same of numbers from 0 to 1, ties up.
inline Floats RoundToBfloat16(Floats value) {
  return reinterpret_cast<Floats>((reinterpret_cast<Ints>(value) + 0x8000) &
                                  ~0xFFFF);
}

inline void PackHead(const DensePackJob& job) {
  float* packed = reinterpret_cast<float*>(job.packed);
  const int64_t head_dim = job.head_dim;
  const auto rounded = [&](float value) {
    return job.bfloat16 ? RoundToBfloat16(value) : value;
  };
  for (int64_t first = 0; first < job.keys; first += kPanel) {
    for (int64_t i = 0; i < kPanel; ++i) {
      if (first + i < job.keys) {
        const float* k = job.k + (first + i) * job.k_stride;
        for (int64_t d = 0; d < head_dim; ++d) {
          packed[d * kPanel + i] = rounded(k[d]);
        }
      } else {
        for (int64_t d = 0; d < head_dim; ++d) packed[d * kPanel + i] = 0;
      }
    }
    packed += head_dim * kPanel;
  }
  const int64_t columns = RoundUpTo(kPanel, head_dim);
  for (int64_t key = 0; key < job.keys; ++key) {
    const float* v = job.v + key * job.v_stride;
    for (int64_t d = 0; d < head_dim; ++d) packed[d] = rounded(v[d]);
    for (int64_t d = head_dim; d < columns; ++d) packed[d] = 0;
    packed += columns;
  }
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

// scores[0, keys) to e^(score - largest), zeros up to the end of the panel.
// Returns their sum.
inline float Exponentials(float* scores, int64_t keys, bool bfloat16) {
  const int64_t end = RoundUpTo(kPanel, keys);
  for (int64_t i = keys; i < end; ++i) scores[i] = -__builtin_inff();
  Floats largest[2] = {Load(scores), Load(scores)};
  for (int64_t i = 0; i < end; i += kPanel) {
    OUNCE_UNROLL
    for (int v = 0; v < kPanelVectors; ++v) {
      largest[v % 2] = Max(Load(scores + i + v * kLanes), largest[v % 2]);
    }
  }
  const Floats offset = Broadcast(ReduceMax(Max(largest[0], largest[1])));
  Floats sum{};
  for (int64_t i = 0; i < end; i += kLanes) {
    const Floats e = Exp(Load(scores + i) - offset);
    sum += e;
    Store(bfloat16 ? RoundToBfloat16(e) : e, scores + i);
  }
  return ReduceAdd(sum);
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
    for (int64_t d = 0; d < head_dim; ++d) {
      const float scaled = r < rows ? q[d] * job.scale : 0;
      queries[r * head_dim + d] =
          job.bfloat16 ? RoundToBfloat16(scaled) : scaled;
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
  for (int64_t r = 0; r < kRows; ++r) {
    sums[r] = Exponentials(scores + r * stride, job.keys, job.bfloat16);
  }
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
