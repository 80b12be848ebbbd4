// VPDPBUSD with the codes as the unsigned factor: up to four rows times up to
// four panels in registers, two integer sums (planes hi and lo) and a chain of
// floats for each pair.
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/integer_blocks_avx512.h"
#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

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

template <class Codes>
struct RunsBlock {
  template <int kRows, int kPanels>
  static void Run(const RunsJob& job, int64_t first_panel, int64_t first_row,
                  std::byte* scratch) {
    const int64_t start = PlaneStart(first_row, job.blocks);
    const int64_t stride = PlaneStride(first_row, job.rows);
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
          PrefetchDistance(vec::kPrefetchTiles, block, job.blocks, kPanels) *
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
      const int8_t* hi = job.hi + start + block * stride;
      const int8_t* lo = job.lo + start + block * stride;
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
                hi_sums[i][p] =
                    _mm512_dpbusd_epi32(hi_sums[i][p], codes[g],
                                        vec::SpreadFour(hi + i * 64 + col));
                lo_sums[i][p] =
                    _mm512_dpbusd_epi32(lo_sums[i][p], codes[g],
                                        vec::SpreadFour(lo + i * 64 + col));
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
    vec::WriteRows<kPanels>(job, first_row, kRows, first_panel * 16,
                            products[0]);
  }
};

}  // namespace

void RunsPanelsAvx512(const RunsJob& job, int64_t first_panel,
                      int64_t end_panel, int64_t first_row, int64_t end_row,
                      std::byte* scratch) {
  if (!job.nibbles) {
    vec::RunBlocks<RunsBlock<Bytes>>(job, first_panel, end_panel, first_row,
                                     end_row, scratch);
    return;
  }
  RunsJob in_registers = job;
  in_registers.unpack = nullptr;
  vec::RunBlocks<RunsBlock<Nibbles>>(in_registers, first_panel, end_panel,
                                     first_row, end_row, scratch);
}

}  // namespace ounce::quant
