// The inner loops of layers, per instruction set.
#ifndef OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_H_
#define OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_H_

#include <cstdint>

// Included by files that are compiled for one instruction set, so it brings in
// no inline function that the linker could take from one of them.
namespace ounce {
enum class Isa;
}

namespace ounce::model {

inline constexpr int kAttentionBlockTokens = 16;

// Some consecutive tokens of one sequence, for one head; see attention.h.
struct HeadJob {
  const float* queries;  // of the first token, turned
  int64_t query_stride;  // floats from token to token
  int64_t rows;          // tokens
  int64_t position;      // of the first token
  int64_t head_dim;
  // Block b of the sequence has its keys at kv + blocks[b] * block_stride, and
  // its values behind them.
  const float* kv;
  const int32_t* blocks;
  int64_t block_stride;  // floats
  float* y;
  int64_t y_stride;
  // [kAttentionTileRows, score_stride], score_stride at least the positions
  // rounded up to whole blocks.
  float* scores;
  int64_t score_stride;
};

inline constexpr int kAttentionTileRows = 8;

struct LayerKernels {
  void (*layer_norm)(const float* x, const float* weight, const float* bias,
                     int64_t cols, float epsilon, float* y);
  void (*attend)(const HeadJob& job);
};

const LayerKernels& LayerKernelsFor(Isa isa);

extern const LayerKernels kLayerKernelsPortable;
extern const LayerKernels kLayerKernelsAvx2;
extern const LayerKernels kLayerKernelsAvx512;

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_KERNELS_LAYER_KERNELS_H_
