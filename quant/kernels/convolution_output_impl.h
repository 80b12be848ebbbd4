// The epilogue of convolutions. Included by the files that are compiled per
// instruction set.
#ifndef OUNCE_QUANT_KERNELS_CONVOLUTION_OUTPUT_IMPL_H_
#define OUNCE_QUANT_KERNELS_CONVOLUTION_OUTPUT_IMPL_H_

#include "quant/kernels/bfloat16_math.h"
#include "quant/kernels/convolution.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

inline constexpr int kPanelLanes = 16;

inline Floats LoadAs(Compute type, const std::byte* from, int64_t count) {
  return type == Compute::kFloat32
             ? LoadPart(reinterpret_cast<const float*>(from), count)
             : LoadBFloat16Part(reinterpret_cast<const uint16_t*>(from), count);
}
inline void StoreAs(Compute type, Floats value, std::byte* to, int64_t count) {
  if (type == Compute::kFloat32) {
    StorePart(value, reinterpret_cast<float*>(to), count);
  } else {
    StoreBFloat16Part(value, reinterpret_cast<uint16_t*>(to), count);
  }
}
inline int64_t BytesOf(Compute type) {
  return type == Compute::kFloat32 ? 4 : 2;
}

// Calls block(weights, first_panel, num_panels, line, first, end) for the parts
// of a range that are multiplied at a time: at most kPanels panels by
// `positions` positions, [first, end). All panels that stay in cache pass by
// some positions before the next ones come, so that outputs are written, and
// residuals read, a few whole pixels at a time.
template <int kPanels, class Unpack, class Block>
inline void ForEachBlock(const ConvolutionJob& job,
                         const ConvolutionRange& range, int64_t positions,
                         int64_t tile_bytes, const Unpack& unpack,
                         const Block& block) {
  constexpr int64_t kPositions = 64;
  const int64_t step = (kPositions + positions - 1) / positions * positions;
  const int64_t at_once = PanelsAtOnce(job.blocks, tile_bytes);
  for (int64_t first_panel = range.first_panel; first_panel < range.end_panel;
       first_panel += at_once) {
    const int64_t end_panel = first_panel + at_once < range.end_panel
                                  ? first_panel + at_once
                                  : range.end_panel;
    const std::byte* const weights = unpack(first_panel, end_panel);
    for (int64_t line = range.first_line; line < range.end_line; ++line) {
      for (int64_t i = range.first_position; i < range.end_position;
           i += step) {
        const int64_t end =
            i + step < range.end_position ? i + step : range.end_position;
        for (int64_t panel = first_panel; panel < end_panel; panel += kPanels) {
          const int64_t left = end_panel - panel;
          block(weights + (panel - first_panel) * job.blocks * tile_bytes,
                panel, left < kPanels ? left : kPanels, line, i, end);
        }
      }
    }
  }
}

// Writes positions [first, end) of a line, kVectors * kLanes channels each from
// `channel` on: position i's sums of vector v are at sums(i, v).
template <int kVectors, class Sums>
inline void WriteOutputs(const ConvolutionJob& job, const ConvolutionMap& map,
                         int64_t line, int64_t first, int64_t end,
                         int64_t channel, const Sums& sums) {
  int64_t row = line + first / map.row_positions;
  int64_t column = first % map.row_positions;
  for (int64_t i = first; i < end; ++i) {
    if (column < map.width) {
      const int64_t pixel = column * job.out_channels;
      std::byte* const y = map.y + row * map.y_row_bytes;
      const std::byte* const residual =
          map.residual + row * map.residual_row_bytes;
      OUNCE_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const int64_t c = channel + v * kLanes;
        const int64_t count = job.out_channels - c;
        if (count <= 0) break;
        Floats value = sums(i, v);
        if (job.scales != nullptr) value *= Load(job.scales + c);
        if (job.bias != nullptr) value += LoadPart(job.bias + c, count);
        if (job.relu == ReluPlace::kBeforeResidual) value = Relu(value);
        if (map.residual != nullptr) {
          value += LoadAs(map.residual_type,
                          residual + (pixel + c) * BytesOf(map.residual_type),
                          count);
        }
        if (job.relu == ReluPlace::kAfterResidual) value = Relu(value);
        StoreAs(job.y_type, value, y + (pixel + c) * BytesOf(job.y_type),
                count);
      }
    }
    if (++column == map.row_positions) {
      column = 0;
      ++row;
    }
  }
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_CONVOLUTION_OUTPUT_IMPL_H_
