// The inner loops of quant/convolution.h, per instruction set: a part of the
// outputs of one map times some panels of a weight, with the epilogue.
//
// Outputs are computed as positions on lines: those of a line lie at a constant
// distance in x. With stride 1 a single line runs through the whole map, and
// where it crosses the border its positions belong to no output:
//
//   row_positions     width
//   |<---------------------------->|
//   o o o o o o o o o o o o o o - - o o o o o ...     o: output, -: none
//
// With other strides each row of outputs is a line of its own.
#ifndef OUNCE_QUANT_KERNELS_CONVOLUTION_H_
#define OUNCE_QUANT_KERNELS_CONVOLUTION_H_

#include <cstddef>
#include <cstdint>

#include "quant/compute.h"
#include "quant/epilogue.h"

namespace ounce::quant {

enum class ConvolutionWeight {
  kInt8,      // codes, once unpacked
  kFloat,     // floats, once unpacked
  kBFloat16,  // packed as [32 pairs of cols][16 rows][2 cols] of bfloat16
};

struct ConvolutionJob {
  ConvolutionWeight weight;
  const std::byte* tiles;  // packed
  int64_t tile_bytes;
  int64_t blocks;  // tiles per panel
  // Null where tiles need none.
  const void* (*unpack)(const std::byte* packed, void* scratch);
  const float* scales;  // kInt8

  // The inputs of an output: runs of numbers. The first `runs_per_row` of them
  // begin tap_bytes apart (below), the next ones a row further down.
  int64_t num_runs;
  int64_t runs_per_row;
  int64_t run_length;  // numbers
  int64_t run_blocks;  // tiles that cover them

  int64_t out_channels;
  Compute x_type;
  Compute y_type;
  // kAdd and kMultiply are with the map's residual. An activation or kMultiply
  // only where y and residual are float32.
  Epilogue epilogue;
  bool relu_last;  // of the combined outputs
};

struct ConvolutionMap {
  const std::byte* x;  // first input of the first position
  int64_t x_line_bytes;
  int64_t x_position_bytes;
  int64_t x_row_bytes;
  int64_t x_tap_bytes;

  int64_t lines;
  int64_t positions;      // of a line
  int64_t row_positions;  // of a row of outputs
  int64_t width;          // outputs of a row

  std::byte* y;
  int64_t y_row_bytes;
  const std::byte* residual;  // null for kReplace
  int64_t residual_row_bytes;
  Compute residual_type;
};

// Positions [first_position, end_position) of each line.
struct ConvolutionRange {
  int64_t first_line;
  int64_t end_line;
  int64_t first_position;
  int64_t end_position;
  int64_t first_panel;  // even
  int64_t end_panel;    // even, or the last one's end
};

// `scratch` holds ConvolutionScratchBytes bytes for all panels of the weight,
// 64-byte aligned.
using Convolution = void(const ConvolutionJob& job, const ConvolutionMap& map,
                         const ConvolutionRange& range, std::byte* scratch);

// So many panels pass by some positions before the next positions come: their
// unpacked tiles stay in a core's L2 cache. A multiple of 2.
inline int64_t PanelsAtOnce(int64_t blocks, int64_t unpacked_tile_bytes) {
  constexpr int64_t kBytes = 768 << 10;
  const int64_t panels = kBytes / (blocks * unpacked_tile_bytes) / 2 * 2;
  return panels < 2 ? 2 : panels;
}

// So many panels, unpacked.
inline int64_t ConvolutionScratchBytes(int64_t blocks, int64_t panels) {
  const auto bytes = [&](int64_t tile_bytes) {
    const int64_t at_once = PanelsAtOnce(blocks, tile_bytes);
    return (panels < at_once ? panels : at_once) * blocks * tile_bytes;
  };
  return bytes(4096) > bytes(2048) ? bytes(4096) : bytes(2048);
}

Convolution ConvolutionPortable, ConvolutionAvx2, ConvolutionAvx512;
// For x_type kBFloat16.
Convolution ConvolutionAvx512Bf16, ConvolutionAmx;

// Rounds rows of floats to bfloat16, as FloatToBFloat16 does.
using RoundToBFloat16 = void(const float* from, int64_t count, uint16_t* to);
RoundToBFloat16 RoundToBFloat16Portable, RoundToBFloat16Avx2,
    RoundToBFloat16Avx512;

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_KERNELS_CONVOLUTION_H_
