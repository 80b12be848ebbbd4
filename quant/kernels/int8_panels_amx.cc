// TDPBUSD: a group of up to 16 rows times two panels, both planes, in the eight
// tile registers:
//
//   0, 1  sums hi, lo of the first panel     4, 5  x hi, lo
//   2, 3  sums hi, lo of the second panel    6, 7  weights
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
  int32_t hi[kRowGroup][16];
  int32_t lo[kRowGroup][16];
};

// Asks for the lines of a tile that comes soon.
inline void Prefetch(const std::byte* tile) {
  for (int i = 0; i < 1024; i += 64) __builtin_prefetch(tile + i);
}

constexpr int kPrefetchTiles = 1;

template <int kPanels>
void Multiply(const std::byte* panels, int64_t panel_bytes, int64_t tile_bytes,
              int64_t blocks, const uint8_t* hi, const uint8_t* lo,
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
    _tile_loadd(4, hi + block * group_bytes, 64);
    _tile_loadd(6, tile, 64);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(5, lo + block * group_bytes, 64);
    _tile_dpbusd(1, 5, 6);
    if constexpr (kPanels == 2) {
      _tile_loadd(7, tile + panel_bytes, 64);
      _tile_dpbusd(2, 4, 7);
      _tile_dpbusd(3, 5, 7);
    }
  }
  _tile_stored(0, sums[0].hi, 64);
  _tile_stored(1, sums[0].lo, 64);
  if constexpr (kPanels == 2) {
    _tile_stored(2, sums[1].hi, 64);
    _tile_stored(3, sums[1].lo, 64);
  }
}

}  // namespace

void Int8PanelsAmx(const Int8Job& job, int64_t first_panel, int64_t end_panel,
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
           ? Multiply<2>
           : Multiply<1>)(panels, panel_bytes, tile_bytes, job.blocks,
                          job.hi + start, job.lo + start, group_rows * 64,
                          row == first_row && job.unpack == nullptr, sums);
      for (int p = 0; p < count; ++p) {
        vec::Floats products[kRowGroup];
        for (int i = 0; i < group_rows; ++i) {
          products[i] = vec::Int8Product(job, row + i, (panel + p) * 16,
                                         vec::Load(sums[p].hi[i]),
                                         vec::Load(sums[p].lo[i]));
        }
        vec::WriteRows<1>(job, row, group_rows, (panel + p) * 16, products);
      }
    }
  }
  // Leaves the thread without tile state, which each switch would have to save.
  _tile_release();
}

}  // namespace ounce::quant
