// Float products, written once for all instruction sets: a block of rows times
// a few panels in registers. Every output is one chain of Fma over the columns
// in ascending order, whatever the shape of the block.
#ifndef OUNCE_QUANT_KERNELS_FLOAT_PANELS_IMPL_H_
#define OUNCE_QUANT_KERNELS_FLOAT_PANELS_IMPL_H_

#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

// Registers for sums: of 32 (AVX-512) or 16, some are left for operands.
inline constexpr int kSums = kLanes == 16 ? 24 : 12;
inline constexpr int kMaxRows = kLanes == 16 ? 12 : kSums / kPanelVectors;

// Panels that a block of so many rows can have: 4, 2 or 1.
constexpr int PanelsFor(int rows) {
  const int panels = kSums / (rows * kPanelVectors);
  return panels >= 4 ? 4 : panels >= 2 ? 2 : 1;
}

// Rows whose time is that of reading weights have one: panels lie one behind
// another, and memory gives one stream in order sooner than several.
constexpr int64_t kFewRows = 2;

template <int kRows, int kPanels>
void FloatBlock(const FloatJob& job, const std::byte* panels,
                int64_t panel_bytes, int64_t tile_bytes, bool unpack,
                int64_t first_panel, int64_t first_row, std::byte* scratch) {
  constexpr int kVectors = kPanels * kPanelVectors;
  Floats sums[kRows][kVectors] = {};
  const float* x = job.x + first_row * job.x_stride;
  for (int64_t block = 0; block < job.blocks; ++block) {
    const int64_t ahead = PrefetchDistance(1, block, job.blocks, kPanels);
    const float* tiles[kPanels];
    const std::byte* soon[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      const std::byte* packed = panels + p * panel_bytes + block * tile_bytes;
      soon[p] = packed + ahead * tile_bytes;
      tiles[p] = static_cast<const float*>(
          unpack ? job.unpack(packed, scratch + p * 4096)
                 : static_cast<const void*>(packed));
    }
    const int64_t first_col = block * 64;
    const int64_t depth = job.cols - first_col < 64 ? job.cols - first_col : 64;
    for (int64_t k = 0; k < depth; ++k) {
      Floats w[kVectors];
      OUNCE_UNROLL
      for (int p = 0; p < kPanels; ++p) {
        __builtin_prefetch(soon[p] + k * tile_bytes / 64);
      }
      OUNCE_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        w[v] = Load(tiles[v / kPanelVectors] + k * 16 +
                    v % kPanelVectors * kLanes);
      }
      OUNCE_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const Floats a = Set(x[i * job.x_stride + first_col + k]);
        OUNCE_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          sums[i][v] = Fma(a, w[v], sums[i][v]);
        }
      }
    }
  }
  WriteRows<kVectors>(job, first_row, kRows, first_panel * 16, sums[0]);
}

template <int kPanels, int kRows = kMaxRows>
void FloatBlockFor(int64_t rows, const FloatJob& job, const std::byte* panels,
                   int64_t panel_bytes, int64_t tile_bytes, bool unpack,
                   int64_t first_panel, int64_t first_row, std::byte* scratch) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      return FloatBlockFor<kPanels, kRows - 1>(rows, job, panels, panel_bytes,
                                               tile_bytes, unpack, first_panel,
                                               first_row, scratch);
    }
  }
  // Shapes that do not fit the registers are never asked for.
  constexpr int kFitting =
      kPanels <= PanelsFor(kRows) ? kPanels : PanelsFor(kRows);
  FloatBlock<kRows, kFitting>(job, panels, panel_bytes, tile_bytes, unpack,
                              first_panel, first_row, scratch);
}

inline void RunFloatPanels(const FloatJob& job, int64_t first_panel,
                           int64_t end_panel, int64_t first_row,
                           int64_t end_row, std::byte* scratch) {
  const int64_t rows = end_row - first_row;
  const int64_t row_blocks = (rows + kMaxRows - 1) / kMaxRows;
  const int64_t rows_per_block = (rows + row_blocks - 1) / row_blocks;
  const int64_t panels_per_block =
      rows <= kFewRows ? 1 : PanelsFor(static_cast<int>(rows_per_block));
  // Unpacked once for all row blocks, if there are several.
  const bool unpack_ahead = job.unpack != nullptr && row_blocks > 1;
  const bool unpack = job.unpack != nullptr && row_blocks == 1;
  const int64_t tile_bytes = unpack_ahead ? 4096 : job.tile_bytes;
  const int64_t panel_bytes = job.blocks * tile_bytes;

  for (int64_t panel = first_panel; panel < end_panel;) {
    int64_t count = panels_per_block;
    while (count > end_panel - panel) count /= 2;
    const std::byte* panels = job.tiles + panel * panel_bytes;
    if (unpack_ahead) {
      if (count > 2) count = 2;
      const std::byte* packed = job.tiles + panel * job.blocks * job.tile_bytes;
      for (int64_t tile = 0; tile < count * job.blocks; ++tile) {
        job.unpack(packed + tile * job.tile_bytes, scratch + tile * 4096);
      }
      panels = scratch;
    }
    for (int64_t row = first_row; row < end_row; row += rows_per_block) {
      const int64_t block_rows =
          end_row - row < rows_per_block ? end_row - row : rows_per_block;
      const auto run = count == 4   ? FloatBlockFor<4>
                       : count == 2 ? FloatBlockFor<2>
                                    : FloatBlockFor<1>;
      run(block_rows, job, panels, panel_bytes, tile_bytes, unpack, panel, row,
          scratch);
    }
    panel += count;
  }
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_FLOAT_PANELS_IMPL_H_
