// VPDPBUSD with the codes as the unsigned factor: up to four rows times up to
// four panels in registers, an integer sum of each plane and a chain of floats
// for each pair.
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/code_planes_avx512.h"
#include "quant/kernels/integer_blocks_avx512.h"
#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"
#include "quant/kernels/run_numbers_impl.h"

namespace ounce::quant {
namespace {

// Of a run of a panel, as integers.
inline __m512i LoadZeros(const uint8_t* zeros, int mask) {
  return _mm512_and_si512(_mm512_cvtepu8_epi32(_mm_loadu_si128(
                              reinterpret_cast<const __m128i*>(zeros))),
                          _mm512_set1_epi32(mask));
}

template <int kBits, bool kLevels, int kPlanes>
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
    __m512i levels;  // in each lane of 16 bytes
    if constexpr (kLevels) {
      levels = _mm512_broadcast_i32x4(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(job.levels)));
    }
    // Of runs from `first_run` on, kRunsAhead at a time.
    vec::FloatsOfRuns scales{}, minima{};
    auto* const numbers = reinterpret_cast<float*>(scratch);
    int64_t run = 0, first_run = 0, end_run = 0;
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
      }
      const int8_t* planes[kPlanes];
      for (int k = 0; k < kPlanes; ++k) {
        planes[k] = job.planes[k] + start + block * stride;
      }
      for (int sixteen = 0; sixteen < 4;) {
        if (run == end_run) {
          first_run = run;
          end_run = job.runs - run < kRunsAhead ? job.runs : run + kRunsAhead;
          scales = vec::NumbersOf(job.scales, first_panel, kPanels, run,
                                  end_run - run, numbers);
          minima = vec::NumbersOf(job.minima, first_panel, kPanels, run,
                                  end_run - run,
                                  numbers + kPanels * kRunsAhead * 16);
        }
        int32_t x_sums[kRows] = {};
        for (int k = sixteen; k < sixteen + sixteens_per_step; ++k) {
          for (int i = 0; i < kRows; ++i) {
            x_sums[i] += sums[i * sums_stride + block * 4 + k];
          }
        }
        __m512i plane_sums[kRows][kPanels][kPlanes] = {};
        for (int i = 0; i < kRows; ++i) {
          for (int p = 0; p < kPanels; ++p) {
            plane_sums[i][p][kPlanes - 1] =
                _mm512_set1_epi32(-job.shift * x_sums[i]);
          }
        }
        for (const int end = sixteen + sixteens_per_step; sixteen < end;
             ++sixteen) {
          OUNCE_UNROLL
          for (int p = 0; p < kPanels; ++p) {
            __m512i codes[4];
            vec::LoadCodes<kBits>(tiles[p], sixteen, codes);
            if constexpr (kLevels) {
              OUNCE_UNROLL
              for (int g = 0; g < 4; ++g) {
                codes[g] = _mm512_shuffle_epi8(levels, codes[g]);
              }
            }
            OUNCE_UNROLL
            for (int g = 0; g < 4; ++g) {
              const int col = sixteen * 16 + g * 4;
              OUNCE_UNROLL
              for (int i = 0; i < kRows; ++i) {
                OUNCE_UNROLL
                for (int k = 0; k < kPlanes; ++k) {
                  plane_sums[i][p][k] = _mm512_dpbusd_epi32(
                      plane_sums[i][p][k], codes[g],
                      vec::SpreadFour(planes[k] + i * 64 + col));
                }
              }
            }
          }
        }
        OUNCE_UNROLL
        for (int p = 0; p < kPanels; ++p) {
          const int64_t at = (run - first_run) * 16;
          if (job.zeros != nullptr) {
            const __m512i zeros =
                LoadZeros(job.zeros + ((first_panel + p) * job.runs + run) * 16,
                          job.zero_mask);
            OUNCE_UNROLL
            for (int i = 0; i < kRows; ++i) {
              __m512i& sum = plane_sums[i][p][kPlanes - 1];
              sum = _mm512_sub_epi32(
                  sum,
                  _mm512_mullo_epi32(
                      zeros, _mm512_set1_epi32(job.zero_step * x_sums[i])));
            }
          }
          const __m512 scale =
              _mm512_loadu_ps(scales.first + p * scales.stride + at);
          OUNCE_UNROLL
          for (int i = 0; i < kRows; ++i) {
            __m512i sum = plane_sums[i][p][0];
            if constexpr (kPlanes == 2) {
              sum = _mm512_add_epi32(_mm512_slli_epi32(sum, 8),
                                     plane_sums[i][p][1]);
            }
            outputs[i][p] =
                _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sum), outputs[i][p]);
          }
          if (minima.first == nullptr) continue;
          const __m512 minimum =
              _mm512_loadu_ps(minima.first + p * minima.stride + at);
          OUNCE_UNROLL
          for (int i = 0; i < kRows; ++i) {
            outputs[i][p] = _mm512_fmadd_ps(
                minimum, _mm512_set1_ps(static_cast<float>(x_sums[i])),
                outputs[i][p]);
          }
        }
        if (--steps_left == 0) {
          ++run;
          steps_left = job.steps_per_run;
        }
      }
    }
    vec::Floats products[kRows][kPanels];
    for (int i = 0; i < kRows; ++i) {
      for (int p = 0; p < kPanels; ++p) {
        products[i][p] =
            outputs[i][p] * (job.row_scales[first_row + i] * job.factor);
      }
    }
    vec::WriteRows<kPanels>(job, first_row, kRows, first_panel * 16,
                            products[0]);
  }
};

template <int kBits, bool kLevels = false>
void Run(const RunsJob& job, int64_t first_panel, int64_t end_panel,
         int64_t first_row, int64_t end_row, std::byte* scratch) {
  if (job.planes[1] == nullptr) {
    vec::RunBlocks<RunsBlock<kBits, kLevels, 1>>(job, first_panel, end_panel,
                                                 first_row, end_row, scratch);
  } else {
    vec::RunBlocks<RunsBlock<kBits, kLevels, 2>>(job, first_panel, end_panel,
                                                 first_row, end_row, scratch);
  }
}

}  // namespace

void RunsPanelsAvx512(const RunsJob& job, int64_t first_panel,
                      int64_t end_panel, int64_t first_row, int64_t end_row,
                      std::byte* scratch) {
  constexpr RunsPanels* kIntegers[] = {Run<1>, Run<2>, Run<3>, Run<4>,
                                       Run<5>, Run<6>, Run<7>, Run<8>};
  constexpr RunsPanels* kTables[] = {Run<1, true>, Run<2, true>, Run<3, true>,
                                     Run<4, true>};
  (job.levels == nullptr ? kIntegers : kTables)[job.bits - 1](
      job, first_panel, end_panel, first_row, end_row, scratch);
}

}  // namespace ounce::quant
