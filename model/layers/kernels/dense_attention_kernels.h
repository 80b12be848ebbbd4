// The inner loops of dense_attention.h, per instruction set.
#ifndef OUNCE_MODEL_LAYERS_KERNELS_DENSE_ATTENTION_KERNELS_H_
#define OUNCE_MODEL_LAYERS_KERNELS_DENSE_ATTENTION_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace ounce::model {

// The most rows of queries that kernels attend at once.
inline constexpr int64_t kDenseTileRows = 16;
// Keys are packed by so many, or fewer.
inline constexpr int64_t kDenseKeyBlock = 32;

constexpr int64_t RoundUpTo(int64_t multiple, int64_t value) {
  return (value + multiple - 1) / multiple * multiple;
}

// One head's keys and values, before and after packing.
struct DensePackJob {
  const float* k;  // [keys, head_dim]
  int64_t k_stride;
  const float* v;
  int64_t v_stride;
  int64_t keys;
  int64_t head_dim;
  bool bfloat16;  // rounds to it
  std::byte* packed;
};

// Some rows of one head.
struct DenseRowsJob {
  const float* q;
  int64_t q_stride;
  int64_t rows;
  float scale;
  const std::byte* packed;
  int64_t keys;
  int64_t head_dim;
  bool bfloat16;  // rounds queries and exponentials to it
  float* y;
  int64_t y_stride;
  std::byte* scratch;  // DenseRowsBytes, 64-byte aligned
};

struct DenseAttentionKernels {
  void (*pack)(const DensePackJob& job);
  void (*attend)(const DenseRowsJob& job);
};

// Of one head's keys and values, however packed: floats, the keys transposed,
// in panels of 16; or bfloat16 in tiles of 16 x 32 (see the kernels).
constexpr int64_t DensePackedBytes(int64_t keys, int64_t head_dim) {
  const int64_t floats =
      RoundUpTo(16, keys) * (head_dim + RoundUpTo(16, head_dim)) * 4;
  const int64_t tiles = RoundUpTo(kDenseKeyBlock, keys) *
                        (RoundUpTo(32, head_dim) + RoundUpTo(16, head_dim)) * 2;
  return RoundUpTo(64, floats > tiles ? floats : tiles);
}

// For a tile's queries, and their scores.
constexpr int64_t DenseRowsBytes(int64_t keys, int64_t head_dim) {
  return kDenseTileRows * RoundUpTo(32, head_dim) * 4 +
         kDenseTileRows * (RoundUpTo(kDenseKeyBlock, keys) + 16) * 4;
}

extern const DenseAttentionKernels kDenseAttentionPortable;
extern const DenseAttentionKernels kDenseAttentionAvx2;
extern const DenseAttentionKernels kDenseAttentionAvx512;
// Of bfloat16 only.
extern const DenseAttentionKernels kDenseAttentionAvx512Bf16;
extern const DenseAttentionKernels kDenseAttentionAmx;

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_KERNELS_DENSE_ATTENTION_KERNELS_H_
