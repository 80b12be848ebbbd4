// VPDPBUSD: up to four rows times up to four panels in registers, a sum of each
// plane for each pair. For one row of two planes that makes eight independent
// chains, enough to read weights as fast as memory gives them.
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/integer_blocks_avx512.h"
#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

template <int kPlanes>
struct Int8Block {
  template <int kRows, int kPanels>
  static void Run(const Int8Job& job, int64_t first_panel, int64_t first_row,
                  std::byte* scratch) {
    const int64_t start = PlaneStart(first_row, job.blocks);
    const int64_t stride = PlaneStride(first_row, job.rows);
    const int64_t panel_bytes = job.blocks * job.tile_bytes;
    const std::byte* panels = job.tiles + first_panel * panel_bytes;
    __m512i sums[kRows][kPanels][kPlanes] = {};
    for (int64_t block = 0; block < job.blocks; ++block) {
      const int64_t ahead =
          PrefetchDistance(vec::kPrefetchTiles, block, job.blocks, kPanels) *
          job.tile_bytes;
      const std::byte* tiles[kPanels];
      const std::byte* soon[kPanels];
      for (int p = 0; p < kPanels; ++p) {
        tiles[p] = panels + p * panel_bytes + block * job.tile_bytes;
        soon[p] = tiles[p] + ahead;
        if (job.unpack != nullptr) {
          tiles[p] = static_cast<const std::byte*>(
              job.unpack(tiles[p], scratch + p * 1024));
        }
      }
      const uint8_t* planes[kPlanes];
      for (int k = 0; k < kPlanes; ++k) {
        planes[k] = job.planes[k] + start + block * stride;
      }
#if !defined(__clang__)
#pragma GCC unroll 4
#endif
      for (int col = 0; col < 64; col += 4) {
        __m512i x[kRows][kPlanes];
        OUNCE_UNROLL
        for (int i = 0; i < kRows; ++i) {
          OUNCE_UNROLL
          for (int k = 0; k < kPlanes; ++k) {
            x[i][k] = vec::SpreadFour(planes[k] + i * 64 + col);
          }
        }
        OUNCE_UNROLL
        for (int p = 0; p < kPanels; ++p) {
          const __m512i codes = _mm512_load_si512(tiles[p] + col * 16);
          __builtin_prefetch(soon[p] + col * job.tile_bytes / 64);
          OUNCE_UNROLL
          for (int i = 0; i < kRows; ++i) {
            OUNCE_UNROLL
            for (int k = 0; k < kPlanes; ++k) {
              sums[i][p][k] =
                  _mm512_dpbusd_epi32(sums[i][p][k], x[i][k], codes);
            }
          }
        }
      }
    }
    vec::Floats products[kRows][kPanels];
    for (int i = 0; i < kRows; ++i) {
      for (int p = 0; p < kPanels; ++p) {
        vec::Ints of_planes[kPlanes];
        for (int k = 0; k < kPlanes; ++k) {
          of_planes[k] = reinterpret_cast<vec::Ints>(sums[i][p][k]);
        }
        products[i][p] = vec::Int8Product<kPlanes>(
            job, first_row + i, (first_panel + p) * 16, of_planes);
      }
    }
    vec::WriteRows<kPanels>(job, first_row, kRows, first_panel * 16,
                            products[0]);
  }
};

}  // namespace

void Int8PanelsAvx512(const Int8Job& job, int64_t first_panel,
                      int64_t end_panel, int64_t first_row, int64_t end_row,
                      std::byte* scratch) {
  const auto run = job.planes[1] == nullptr
                       ? vec::RunBlocks<Int8Block<1>, Int8Job>
                       : vec::RunBlocks<Int8Block<2>, Int8Job>;
  run(job, first_panel, end_panel, first_row, end_row, scratch);
}

}  // namespace ounce::quant
