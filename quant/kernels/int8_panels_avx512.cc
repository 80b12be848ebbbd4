// VPDPBUSD: up to four rows times up to four panels in registers, two sums
// (planes hi and lo) for each pair. For one row that makes eight independent
// chains, enough to read weights as fast as memory gives them.
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

constexpr int kMaxRows = 4;

constexpr int PanelsFor(int rows) { return rows <= 2 ? 4 : 2; }

inline __m512i SpreadFour(const uint8_t* from) {
  int32_t bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}

constexpr int kPrefetchTiles = 2;

template <int kRows, int kPanels>
void Int8Block(const Int8Job& job, int64_t first_panel, int64_t first_row,
               std::byte* scratch) {
  const int64_t group = first_row / kRowGroup * kRowGroup;
  const int64_t group_rows =
      job.rows - group < kRowGroup ? job.rows - group : kRowGroup;
  const int64_t start = group * job.blocks * 64 + (first_row - group) * 64;
  const int64_t panel_bytes = job.blocks * job.tile_bytes;
  const std::byte* panels = job.tiles + first_panel * panel_bytes;
  __m512i hi_sums[kRows][kPanels] = {};
  __m512i lo_sums[kRows][kPanels] = {};
  for (int64_t block = 0; block < job.blocks; ++block) {
    const int64_t ahead =
        PrefetchDistance(kPrefetchTiles, block, job.blocks, kPanels) *
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
    const uint8_t* hi = job.hi + start + block * group_rows * 64;
    const uint8_t* lo = job.lo + start + block * group_rows * 64;
#if !defined(__clang__)
#pragma GCC unroll 4
#endif
    for (int col = 0; col < 64; col += 4) {
      __m512i x_hi[kRows], x_lo[kRows];
      OUNCE_UNROLL
      for (int i = 0; i < kRows; ++i) {
        x_hi[i] = SpreadFour(hi + i * 64 + col);
        x_lo[i] = SpreadFour(lo + i * 64 + col);
      }
      OUNCE_UNROLL
      for (int p = 0; p < kPanels; ++p) {
        const __m512i codes = _mm512_load_si512(tiles[p] + col * 16);
        __builtin_prefetch(soon[p] + col * job.tile_bytes / 64);
        OUNCE_UNROLL
        for (int i = 0; i < kRows; ++i) {
          hi_sums[i][p] = _mm512_dpbusd_epi32(hi_sums[i][p], x_hi[i], codes);
          lo_sums[i][p] = _mm512_dpbusd_epi32(lo_sums[i][p], x_lo[i], codes);
        }
      }
    }
  }
  vec::Floats products[kRows][kPanels];
  for (int i = 0; i < kRows; ++i) {
    for (int p = 0; p < kPanels; ++p) {
      products[i][p] =
          vec::Int8Product(job, first_row + i, (first_panel + p) * 16,
                           reinterpret_cast<vec::Ints>(hi_sums[i][p]),
                           reinterpret_cast<vec::Ints>(lo_sums[i][p]));
    }
  }
  vec::WriteRows<kPanels>(job, first_row, kRows, first_panel * 16, products[0]);
}

template <int kPanels>
void Int8BlockFor(int64_t rows, const Int8Job& job, int64_t panel, int64_t row,
                  std::byte* scratch) {
  constexpr int kFew = kPanels < 2 ? kPanels : 2;
  switch (rows) {
    case 1:
      return Int8Block<1, kPanels>(job, panel, row, scratch);
    case 2:
      return Int8Block<2, kPanels>(job, panel, row, scratch);
    case 3:
      return Int8Block<3, kFew>(job, panel, row, scratch);
    default:
      return Int8Block<4, kFew>(job, panel, row, scratch);
  }
}

}  // namespace

void Int8PanelsAvx512(const Int8Job& job, int64_t first_panel,
                      int64_t end_panel, int64_t first_row, int64_t end_row,
                      std::byte* scratch) {
  const int64_t rows = end_row - first_row;
  const int panels_per_block =
      PanelsFor(rows < kMaxRows ? static_cast<int>(rows) : kMaxRows);
  for (int64_t panel = first_panel; panel < end_panel;) {
    int64_t count = panels_per_block;
    while (count > end_panel - panel) count /= 2;
    // Rows of a block are of one group: first_row and kRowGroup are multiples
    // of kMaxRows.
    for (int64_t row = first_row; row < end_row; row += kMaxRows) {
      const int64_t block_rows =
          end_row - row < kMaxRows ? end_row - row : kMaxRows;
      const auto run = count == 4   ? Int8BlockFor<4>
                       : count == 2 ? Int8BlockFor<2>
                                    : Int8BlockFor<1>;
      run(block_rows, job, panel, row, scratch);
    }
    panel += count;
  }
}

}  // namespace ounce::quant
