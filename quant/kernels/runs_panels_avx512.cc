// VPDPBUSD with the codes as the unsigned factor: up to four rows times up to
// four panels in registers, two integer sums (planes hi and lo) and a chain of
// floats for each pair.
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

constexpr int kMaxRows = 4;

constexpr int PanelsFor(int rows) { return rows <= 2 ? 4 : 2; }

constexpr int kPrefetchTiles = 2;

// How the codes of 16 columns, four groups of 4, come out of a tile.
struct Bytes {
  static constexpr int kBytes = 256;
  static void Load(const std::byte* from, __m512i codes[4]) {
    OUNCE_UNROLL
    for (int i = 0; i < 4; ++i) codes[i] = _mm512_load_si512(from + i * 64);
  }
};
struct Nibbles {
  static constexpr int kBytes = 128;
  static void Load(const std::byte* from, __m512i codes[4]) {
    const __m512i low_half = _mm512_set1_epi8(15);
    OUNCE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const __m512i pair = _mm512_load_si512(from + i * 64);
      codes[2 * i] = _mm512_and_si512(pair, low_half);
      codes[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(pair, 4), low_half);
    }
  }
};

inline __m512i SpreadFour(const int8_t* from) {
  int32_t bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}

template <class Codes, int kRows, int kPanels>
void RunsBlock(const RunsJob& job, int64_t first_panel, int64_t first_row,
               std::byte* scratch) {
  const int64_t group = first_row / kRowGroup * kRowGroup;
  const int64_t group_rows =
      job.rows - group < kRowGroup ? job.rows - group : kRowGroup;
  const int64_t start = group * job.blocks * 64 + (first_row - group) * 64;
  const int64_t panel_bytes = job.blocks * job.tile_bytes;
  const std::byte* panels = job.tiles + first_panel * panel_bytes;
  const int64_t sums_stride = job.blocks * 4;
  const int32_t* sums = job.sums + first_row * sums_stride;
  const int sixteens_per_step = job.step_cols / 16;
  int64_t at = first_panel * job.runs * 16;  // of scales and minima
  int64_t steps_left = job.steps_per_run;
  __m512 outputs[kRows][kPanels] = {};
  for (int64_t block = 0; block < job.blocks; ++block) {
    const int64_t ahead =
        PrefetchDistance(kPrefetchTiles, block, job.blocks, kPanels) *
        job.tile_bytes;
    const std::byte* tiles[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      tiles[p] = panels + p * panel_bytes + block * job.tile_bytes;
      for (int64_t i = 0; i < job.tile_bytes; i += 64) {
        __builtin_prefetch(tiles[p] + ahead + i);
      }
      if (job.unpack != nullptr) {
        tiles[p] = static_cast<const std::byte*>(
            job.unpack(tiles[p], scratch + p * 1024));
      }
    }
    const int8_t* hi = job.hi + start + block * group_rows * 64;
    const int8_t* lo = job.lo + start + block * group_rows * 64;
    for (int sixteen = 0; sixteen < 4;) {
      int32_t x_sums[kRows] = {};
      for (int k = sixteen; k < sixteen + sixteens_per_step; ++k) {
        for (int i = 0; i < kRows; ++i) {
          x_sums[i] += sums[i * sums_stride + block * 4 + k];
        }
      }
      __m512i hi_sums[kRows][kPanels] = {};
      __m512i lo_sums[kRows][kPanels];
      for (int i = 0; i < kRows; ++i) {
        for (int p = 0; p < kPanels; ++p) {
          lo_sums[i][p] = _mm512_set1_epi32(-job.shift * x_sums[i]);
        }
      }
      for (const int end = sixteen + sixteens_per_step; sixteen < end;
           ++sixteen) {
        OUNCE_UNROLL
        for (int p = 0; p < kPanels; ++p) {
          __m512i codes[4];
          Codes::Load(tiles[p] + sixteen * Codes::kBytes, codes);
          OUNCE_UNROLL
          for (int g = 0; g < 4; ++g) {
            const int col = sixteen * 16 + g * 4;
            OUNCE_UNROLL
            for (int i = 0; i < kRows; ++i) {
              hi_sums[i][p] = _mm512_dpbusd_epi32(
                  hi_sums[i][p], codes[g], SpreadFour(hi + i * 64 + col));
              lo_sums[i][p] = _mm512_dpbusd_epi32(
                  lo_sums[i][p], codes[g], SpreadFour(lo + i * 64 + col));
            }
          }
        }
      }
      OUNCE_UNROLL
      for (int p = 0; p < kPanels; ++p) {
        const int64_t run = at + p * job.runs * 16;
        const __m512 scales = _mm512_load_ps(job.scales + run);
        OUNCE_UNROLL
        for (int i = 0; i < kRows; ++i) {
          const __m512i sum = _mm512_add_epi32(
              _mm512_slli_epi32(hi_sums[i][p], 8), lo_sums[i][p]);
          outputs[i][p] =
              _mm512_fmadd_ps(scales, _mm512_cvtepi32_ps(sum), outputs[i][p]);
        }
        if (job.minima == nullptr) continue;
        const __m512 minima = _mm512_load_ps(job.minima + run);
        OUNCE_UNROLL
        for (int i = 0; i < kRows; ++i) {
          outputs[i][p] = _mm512_fmadd_ps(
              minima, _mm512_set1_ps(static_cast<float>(x_sums[i])),
              outputs[i][p]);
        }
      }
      if (--steps_left == 0) {
        at += 16;
        steps_left = job.steps_per_run;
      }
    }
  }
  vec::Floats products[kRows][kPanels];
  for (int i = 0; i < kRows; ++i) {
    for (int p = 0; p < kPanels; ++p) {
      products[i][p] = outputs[i][p] * job.row_scales[first_row + i];
    }
  }
  vec::WriteRows<kPanels>(job, first_row, kRows, first_panel * 16, products[0]);
}

template <class Codes, int kPanels>
void RunsBlockFor(int64_t rows, const RunsJob& job, int64_t panel, int64_t row,
                  std::byte* scratch) {
  constexpr int kFew = kPanels < 2 ? kPanels : 2;
  switch (rows) {
    case 1:
      return RunsBlock<Codes, 1, kPanels>(job, panel, row, scratch);
    case 2:
      return RunsBlock<Codes, 2, kPanels>(job, panel, row, scratch);
    case 3:
      return RunsBlock<Codes, 3, kFew>(job, panel, row, scratch);
    default:
      return RunsBlock<Codes, 4, kFew>(job, panel, row, scratch);
  }
}

template <class Codes>
void Panels(const RunsJob& job, int64_t first_panel, int64_t end_panel,
            int64_t first_row, int64_t end_row, std::byte* scratch) {
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
      const auto run = count == 4   ? RunsBlockFor<Codes, 4>
                       : count == 2 ? RunsBlockFor<Codes, 2>
                                    : RunsBlockFor<Codes, 1>;
      run(block_rows, job, panel, row, scratch);
    }
    panel += count;
  }
}

}  // namespace

void RunsPanelsAvx512(const RunsJob& job, int64_t first_panel,
                      int64_t end_panel, int64_t first_row, int64_t end_row,
                      std::byte* scratch) {
  if (!job.nibbles) {
    Panels<Bytes>(job, first_panel, end_panel, first_row, end_row, scratch);
    return;
  }
  RunsJob in_registers = job;
  in_registers.unpack = nullptr;
  Panels<Nibbles>(in_registers, first_panel, end_panel, first_row, end_row,
                  scratch);
}

}  // namespace ounce::quant
