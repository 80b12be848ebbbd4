// The inner loops of layers, per instruction set.
#ifndef OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_H_
#define OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "model/layers/kv_type.h"

// Included by files that are compiled for one instruction set, so it brings in
// no inline function that the linker could take from one of them.
namespace ounce {
enum class Isa;
}

namespace ounce::model {

inline constexpr int kAttentionBlockTokens = 16;

// Some consecutive tokens of one sequence, for some query heads that share one
// key/value head; see attention.h.
struct AttendJob {
  // The query of head i of them begins at query_columns[heads[i]] of its token,
  // turned, and for KvType::kInt8 rotated (below).
  const float* queries;          // the first token's
  int64_t query_stride;          // floats from token to token
  const int64_t* query_columns;  // by head
  const int32_t* heads;
  int64_t num_heads;
  int64_t tokens;
  int64_t position;  // of the first token
  int64_t head_dim;
  // Block b of the sequence has its keys at kv + blocks[b] * block_stride, and
  // its values, and the scales of both, behind them (kv_cache.h).
  KvType kv_type;
  const std::byte* kv;
  const int32_t* blocks;
  int64_t block_stride;  // bytes
  float score_divisor;
  float soft_cap;              // 0: none
  int64_t window;              // 0: all
  const float* position_bias;  // of head 0; null: none
  int64_t position_bias_stride;
  float* y;  // the first token's, of head 0
  int64_t y_stride;
  // [kAttentionTileRows, score_stride], score_stride at least the positions
  // rounded up to whole blocks.
  float* scores;
  int64_t score_stride;
};

inline constexpr int kAttentionTileRows = 8;

struct LayerKernels {
  // A null weight or bias: none.
  void (*layer_norm)(const float* x, const float* weight, const float* bias,
                     int64_t cols, float epsilon, float* y);
  void (*rms_norm)(const float* x, const float* weight, const float* bias,
                   int64_t cols, float epsilon, float* y);
  void (*soft_cap)(float* x, int64_t count, float cap);
  void (*attend)(const AttendJob& job);

  // Multiplies each piece of a head, of as many elements as the largest power
  // of two that divides `dim`, by the Walsh-Hadamard matrix of that size, whose
  // rows have length 1: products of two heads stay as they are. Bit-equal on
  // all instruction sets.
  void (*rotate)(float* x, int64_t dim);
  // Rounds a head to bytes, which may take its own memory, and returns their
  // scale (KvType::kInt8): 0 for a head below 2^-100; NaN, with codes of 0, for
  // one with NaN or infinity. Bit-equal on all instruction sets.
  float (*round_to_bytes)(const float* x, int64_t dim, int8_t* codes);
};

const LayerKernels& LayerKernelsFor(Isa isa);

extern const LayerKernels kLayerKernelsPortable;
extern const LayerKernels kLayerKernelsAvx2;
extern const LayerKernels kLayerKernelsAvx512;

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_H_
