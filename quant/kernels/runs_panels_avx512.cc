// VPDPBUSD with the codes as the unsigned factor: some rows times a panel in
// registers, integer sums of each plane and a chain of floats for each row.
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/code_planes_avx512.h"
#include "quant/kernels/integer_blocks_avx512.h"
#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"
#include "quant/kernels/run_numbers_impl.h"

namespace ounce::quant {
namespace {

// zero * step by row, of bytes that hold the zeros of a run.
inline __m512i ZerosTimes(const uint8_t* bytes, int mask, int32_t step) {
  const __m128i zeros =
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  if (mask == 1) {
    return _mm512_maskz_set1_epi32(_mm_test_epi8_mask(zeros, _mm_set1_epi8(1)),
                                   step);
  }
  return _mm512_mullo_epi32(
      _mm512_and_si512(_mm512_cvtepu8_epi32(zeros), _mm512_set1_epi32(mask)),
      _mm512_set1_epi32(step));
}

// Of a step's 1, 2 or 4 numbers. (Of a loop over so few a compiler makes a much
// longer one.)
inline int32_t SumOfStep(const int32_t* sums, int sixteens) {
  int32_t sum = sums[0];
  if (sixteens > 1) sum += sums[1];
  if (sixteens > 2) sum += sums[2] + sums[3];
  return sum;
}

template <int kBits, bool kLevels, int kPlanesOfX>
struct RunsBlock {
  static constexpr int kPlanes = kPlanesOfX;

  template <int kRows>
  static void Run(const RunsJob& job, int64_t panel, int64_t first_row,
                  std::byte* scratch) {
    constexpr int kChains = vec::kChains<kRows, kPlanes>;
    const int64_t start = PlaneStart(first_row, job.blocks);
    const int64_t stride = PlaneStride(first_row, job.rows);
    const std::byte* tile = job.tiles + panel * job.blocks * job.tile_bytes;
    const int64_t sums_stride = job.blocks * 4;
    const int32_t* sums = job.sums + first_row * sums_stride;
    const int sixteens_per_step = job.step_cols / 16;
    __m512i levels;  // in each lane of 16 bytes
    if constexpr (kLevels) {
      levels = _mm512_broadcast_i32x4(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(job.levels)));
    }
    // Of runs from `first_run` on, kRunsAhead at a time.
    const float *scales = nullptr, *minima = nullptr;
    auto* const numbers = reinterpret_cast<float*>(scratch);
    int64_t run = 0, first_run = 0, end_run = 0;
    int64_t steps_left = job.steps_per_run;
    __m512 outputs[kRows] = {};
    for (int64_t block = 0; block < job.blocks;
         ++block, tile += job.tile_bytes, sums += 4) {
      const int8_t* planes[kPlanes];
      for (int k = 0; k < kPlanes; ++k) {
        planes[k] = job.planes[k] + start + block * stride;
      }
      for (int sixteen = 0; sixteen < 4;) {
        if (run == end_run) {
          first_run = run;
          end_run = job.runs - run < kRunsAhead ? job.runs : run + kRunsAhead;
          scales =
              vec::NumbersOf(job.scales, panel, run, end_run - run, numbers);
          minima = vec::NumbersOf(job.minima, panel, run, end_run - run,
                                  numbers + kRunsAhead * 16);
        }
        int32_t x_sums[kRows];
        __m512i plane_sums[kRows][kPlanes][kChains] = {};
        OUNCE_UNROLL
        for (int i = 0; i < kRows; ++i) {
          x_sums[i] =
              SumOfStep(sums + i * sums_stride + sixteen, sixteens_per_step);
          plane_sums[i][kPlanes - 1][0] =
              _mm512_set1_epi32(-job.shift * x_sums[i]);
        }
        for (const int end = sixteen + sixteens_per_step; sixteen < end;
             ++sixteen) {
          OUNCE_UNROLL
          for (int line = 0; line < (kBits + 1) / 2; ++line) {
            __builtin_prefetch(tile + vec::kPrefetchBytes +
                               sixteen * 32 * kBits + line * 64);
          }
          __m512i codes[4];
          vec::LoadCodes<kBits>(tile, sixteen, codes);
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
                __m512i& sum = plane_sums[i][k][g % kChains];
                sum = _mm512_dpbusd_epi32(
                    sum, codes[g], vec::SpreadFour(planes[k] + i * 64 + col));
              }
            }
          }
        }
        const int64_t at = (run - first_run) * 16;
        const __m512 scale = _mm512_loadu_ps(scales + at);
        OUNCE_UNROLL
        for (int i = 0; i < kRows; ++i) {
          __m512i sum = vec::AddUp<kChains>(plane_sums[i][0]);
          if constexpr (kPlanes == 2) {
            sum = _mm512_add_epi32(_mm512_slli_epi32(sum, 8),
                                   vec::AddUp<kChains>(plane_sums[i][1]));
          }
          if (job.zeros != nullptr) {
            sum = _mm512_sub_epi32(
                sum, ZerosTimes(job.zeros + (panel * job.runs + run) * 16,
                                job.zero_mask, job.zero_step * x_sums[i]));
          }
          outputs[i] =
              _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sum), outputs[i]);
        }
        if (minima != nullptr) {
          const __m512 minimum = _mm512_loadu_ps(minima + at);
          OUNCE_UNROLL
          for (int i = 0; i < kRows; ++i) {
            outputs[i] = _mm512_fmadd_ps(
                minimum, _mm512_set1_ps(static_cast<float>(x_sums[i])),
                outputs[i]);
          }
        }
        if (--steps_left == 0) {
          ++run;
          steps_left = job.steps_per_run;
        }
      }
    }
    vec::Floats products[kRows];
    OUNCE_UNROLL
    for (int i = 0; i < kRows; ++i) {
      products[i] = outputs[i] * (job.row_scales[first_row + i] * job.factor);
    }
    vec::WriteRows<1>(job, first_row, kRows, panel * 16, products);
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
