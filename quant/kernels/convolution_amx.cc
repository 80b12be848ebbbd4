// TDPBF16PS: two groups of up to 16 positions times two panels, in the eight
// tile registers:
//
//   0, 1  sums of the first positions     4, 5  inputs of both groups
//   2, 3  sums of the second              6, 7  weights of both panels
//
// Rows of inputs are read where they lie in the map, 32 numbers at a time. Two
// panels stay in a core's caches while the positions of a task pass by.
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/amx_tiles.h"
#include "quant/kernels/bfloat16_panels.h"
#include "quant/kernels/convolution.h"
#include "quant/kernels/convolution_output_impl.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant {
namespace {

constexpr int kTileBytes = 1024;  // 16 rows of 64 bytes
constexpr int64_t kGroup = 16;    // positions of a tile

struct alignas(64) Sums {
  float of[2][kGroup * 32];  // group; position, panel, channel
};

// Sums of the positions at x and, `second` bytes further, of as many others.
template <int kPanels>
void Multiply(const ConvolutionJob& job, const ConvolutionMap& map,
              const std::byte* x, int64_t second, const std::byte* weights,
              Sums& sums) {
  const int64_t panel_bytes = job.blocks * vec::kBFloat16TileBytes;
  const int64_t steps = (job.run_length + 31) / 32;
  _tile_zero(0);
  _tile_zero(2);
  if constexpr (kPanels == 2) {
    _tile_zero(1);
    _tile_zero(3);
  }
  const int64_t distance = map.x_position_bytes;
  int64_t tap = 0;
  for (int64_t run = 0; run < job.num_runs; ++run) {
    const std::byte* const a = x + tap * map.x_tap_bytes;
    for (int64_t step = 0; step < steps; ++step) {
      _tile_loadd(6, weights + step * kTileBytes, 64);
      _tile_loadd(4, a + step * 64, distance);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (kPanels == 2) {
        _tile_loadd(7, weights + panel_bytes + step * kTileBytes, 64);
        _tile_dpbf16ps(1, 4, 7);
      }
      _tile_loadd(5, a + second + step * 64, distance);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kPanels == 2) _tile_dpbf16ps(3, 5, 7);
    }
    weights += job.run_blocks * vec::kBFloat16TileBytes;
    if (++tap == job.runs_per_row) {
      tap = 0;
      x += map.x_row_bytes;
    }
  }
  constexpr int64_t kStride = kPanels * 64;
  _tile_stored(0, sums.of[0], kStride);
  _tile_stored(2, sums.of[1], kStride);
  if constexpr (kPanels == 2) {
    _tile_stored(1, sums.of[0] + 16, kStride);
    _tile_stored(3, sums.of[1] + 16, kStride);
  }
}

// Positions [start, end) of a line, in blocks of so many; their second group
// ends where the block ends.
template <int kPanels>
void ConvolvePositions(const ConvolutionJob& job, const ConvolutionMap& map,
                       int64_t block, int64_t group, const std::byte* weights,
                       int64_t first_panel, int64_t line, int64_t start,
                       int64_t end) {
  Sums sums;
  const std::byte* const x = map.x + line * map.x_line_bytes;
  const int64_t second = block - group;
  for (int64_t i = start; i < end; i += block) {
    // The last block begins early enough to be a whole one.
    const int64_t first = i + block < end ? i : end - block;
    Multiply<kPanels>(job, map, x + first * map.x_position_bytes,
                      second * map.x_position_bytes, weights, sums);
    const auto write = [&](int g, int64_t begin, int64_t written, int64_t to) {
      vec::WriteOutputs<kPanels>(job, map, line, written, to,
                                 first_panel * vec::kPanelLanes,
                                 sums.of[g] + (written - begin) * kPanels * 16);
    };
    const int64_t middle = first + group;
    if (i < middle) write(0, first, i, middle);
    write(1, first + second, i < middle ? middle : i, first + block);
  }
}

}  // namespace

void ConvolutionAmx(const ConvolutionJob& job, const ConvolutionMap& map,
                    const ConvolutionRange& range, std::byte* scratch) {
  // Blocks of equal size, at most two whole groups.
  const int64_t positions = range.end_position - range.first_position;
  const int64_t blocks = (positions + 2 * kGroup - 1) / (2 * kGroup);
  const int64_t block = (positions + blocks - 1) / blocks;
  const int64_t group = (block + 1) / 2;
  ConfigureTiles(group);
  vec::ForEachBlock<2>(
      job, map, range, block, vec::kBFloat16TileBytes,
      [&](int64_t first_panel, int64_t end_panel) {
        const std::byte* const panels = vec::UnpackBFloat16Panels(
            job, first_panel, end_panel - first_panel, scratch);
        PublishStores();
        return panels;
      },
      [&](const std::byte* weights, int64_t panel, int64_t num_panels,
          int64_t line, int64_t first, int64_t end) {
        if (num_panels == 2) {
          ConvolvePositions<2>(job, map, block, group, weights, panel, line,
                               first, end);
        } else {
          ConvolvePositions<1>(job, map, block, group, weights, panel, line,
                               first, end);
        }
      });
  // Leaves the thread without tile state, which each switch would have to save.
  _tile_release();
}

}  // namespace ounce::quant
