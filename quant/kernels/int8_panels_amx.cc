// TDPBUSD: a group of up to 16 rows times two panels, both planes or the one
// there is, in the eight tile registers:
//
//   0, 1  sums of the first panel     4, 5  x, by plane
//   2, 3  sums of the second panel    6, 7  weights
//
// Two panels stay in the L2 cache while all groups of rows pass by.
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/amx_tiles.h"
#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

struct alignas(64) Sums {
  int32_t of_plane[2][kRowGroup][16];
};

// Asks for the lines of a tile that comes soon.
inline void Prefetch(const std::byte* tile) {
  for (int i = 0; i < 1024; i += 64) __builtin_prefetch(tile + i);
}

constexpr int kPrefetchTiles = 1;

template <int kPanels, int kPlanes>
void Multiply(const std::byte* panels, int64_t panel_bytes, int64_t tile_bytes,
              int64_t blocks, const uint8_t* const planes[2], int64_t start,
              int64_t group_bytes, bool prefetch, Sums sums[kPanels]) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t block = 0; block < blocks; ++block) {
    const std::byte* tile = panels + block * tile_bytes;
    if (prefetch) {
      const std::byte* soon =
          tile +
          PrefetchDistance(kPrefetchTiles, block, blocks, kPanels) * tile_bytes;
      Prefetch(soon);
      if constexpr (kPanels == 2) Prefetch(soon + panel_bytes);
    }
    _tile_loadd(4, planes[0] + start + block * group_bytes, 64);
    _tile_loadd(6, tile, 64);
    _tile_dpbusd(0, 4, 6);
    if constexpr (kPlanes == 2) {
      _tile_loadd(5, planes[1] + start + block * group_bytes, 64);
      _tile_dpbusd(1, 5, 6);
    }
    if constexpr (kPanels == 2) {
      _tile_loadd(7, tile + panel_bytes, 64);
      _tile_dpbusd(2, 4, 7);
      if constexpr (kPlanes == 2) _tile_dpbusd(3, 5, 7);
    }
  }
  _tile_stored(0, sums[0].of_plane[0], 64);
  if constexpr (kPlanes == 2) _tile_stored(1, sums[0].of_plane[1], 64);
  if constexpr (kPanels == 2) {
    _tile_stored(2, sums[1].of_plane[0], 64);
    if constexpr (kPlanes == 2) _tile_stored(3, sums[1].of_plane[1], 64);
  }
}

template <int kPlanes>
void RunPanels(const Int8Job& job, int64_t first_panel, int64_t end_panel,
               int64_t first_row, int64_t end_row, std::byte* scratch) {
  Sums sums[2];
  int configured_rows = 0;
  const int64_t tile_bytes = job.unpack ? 1024 : job.tile_bytes;
  const int64_t panel_bytes = job.blocks * tile_bytes;
  for (int64_t panel = first_panel; panel < end_panel; panel += 2) {
    const int count = end_panel - panel < 2 ? 1 : 2;
    const std::byte* panels = job.tiles + panel * job.blocks * job.tile_bytes;
    if (job.unpack != nullptr) {
      for (int64_t tile = 0; tile < count * job.blocks; ++tile) {
        job.unpack(panels + tile * job.tile_bytes, scratch + tile * 1024);
      }
      panels = scratch;
    }
    for (int64_t row = first_row; row < end_row; row += kRowGroup) {
      const int group_rows = static_cast<int>(
          job.rows - row < kRowGroup ? job.rows - row : kRowGroup);
      if (group_rows != configured_rows) {
        ConfigureTiles(group_rows);
        configured_rows = group_rows;
      }
      const int64_t start = row * job.blocks * 64;
      (count == 2
           ? Multiply<2, kPlanes>
           : Multiply<1, kPlanes>)(panels, panel_bytes, tile_bytes, job.blocks,
                                   job.planes, start, group_rows * 64,
                                   row == first_row && job.unpack == nullptr,
                                   sums);
      for (int p = 0; p < count; ++p) {
        vec::Floats products[kRowGroup];
        for (int i = 0; i < group_rows; ++i) {
          vec::Ints of_planes[kPlanes];
          for (int k = 0; k < kPlanes; ++k) {
            of_planes[k] = vec::Load(sums[p].of_plane[k][i]);
          }
          products[i] = vec::Int8Product<kPlanes>(job, row + i,
                                                  (panel + p) * 16, of_planes);
        }
        vec::WriteRows<1>(job, row, group_rows, (panel + p) * 16, products);
      }
    }
  }
  // Leaves the thread without tile state, which each switch would have to save.
  _tile_release();
}

}  // namespace

void Int8PanelsAmx(const Int8Job& job, int64_t first_panel, int64_t end_panel,
                   int64_t first_row, int64_t end_row, std::byte* scratch) {
  (job.planes[1] == nullptr ? RunPanels<1> : RunPanels<2>)(job, first_panel,
                                                           end_panel, first_row,
                                                           end_row, scratch);
}

}  // namespace ounce::quant
