// Both factors widened to 16 bits, then VPMADDWD: the planes of x are put
// together again. (VPMADDUBSW would need no widening, but it saturates.)
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"
#include "quant/kernels/run_numbers_impl.h"

namespace ounce::quant {
namespace {

// Four signed bytes at `from`, as four 16-bit integers, four times over.
inline __m256i SpreadFour(const int8_t* from) {
  int32_t bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return _mm256_cvtepi8_epi16(_mm_set1_epi32(bytes));
}

// Eight 32-bit sums of neighbours: [a01 a23 b01 b23 ...] of two registers that
// hold channels 0-3 and 4-7 becomes channels 0-7.
inline __m256i AddNeighbours(__m256i low, __m256i high) {
  const __m256i mixed = _mm256_hadd_epi32(low, high);  // 0 1 4 5 2 3 6 7
  return _mm256_permute4x64_epi64(mixed, _MM_SHUFFLE(3, 1, 2, 0));
}

// levels[code] of a tile's codes.
void LookUp(const uint8_t* levels, std::byte* codes) {
  const __m256i table = _mm256_broadcastsi128_si256(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels)));
  auto* at = reinterpret_cast<__m256i*>(codes);
  for (int i = 0; i < 32; ++i) {
    _mm256_store_si256(at + i,
                       _mm256_shuffle_epi8(table, _mm256_load_si256(at + i)));
  }
}

// `scales` and `minima` of the panel.
template <int kPlanes>
void OneRow(const RunsJob& job, int64_t panel, int64_t row, const float* scales,
            const float* minima, std::byte* scratch) {
  const int64_t start = PlaneStart(row, job.blocks);
  const int64_t stride = PlaneStride(row, job.rows);
  const int32_t* sums = job.sums + row * job.blocks * 4;
  int64_t run = 0;
  int64_t steps_left = job.steps_per_run;
  __m256 outputs[2] = {};
  for (int64_t block = 0; block < job.blocks; ++block) {
    const std::byte* packed =
        job.tiles + (panel * job.blocks + block) * job.tile_bytes;
    const auto* tile = reinterpret_cast<const __m128i*>(
        job.unpack ? job.unpack(packed, scratch) : packed);
    if (job.levels != nullptr) LookUp(job.levels, scratch);
    const int8_t* planes[kPlanes];
    for (int k = 0; k < kPlanes; ++k) {
      planes[k] = job.planes[k] + start + block * stride;
    }
    for (int col = 0; col < 64;) {
      __m256i products[4] = {};  // of four channels each
      int32_t x_sum = 0;
      for (const int end = col + job.step_cols; col < end; ++sums) {
        x_sum += *sums;
        for (const int sixteen = col + 16; col < sixteen; col += 4) {
          __m256i x = SpreadFour(planes[0] + col);
          if constexpr (kPlanes == 2) {
            x = _mm256_add_epi16(_mm256_slli_epi16(x, 8),
                                 SpreadFour(planes[1] + col));
          }
          OUNCE_UNROLL
          for (int i = 0; i < 4; ++i) {
            const __m256i codes =
                _mm256_cvtepu8_epi16(_mm_load_si128(tile + col + i));
            products[i] =
                _mm256_add_epi32(products[i], _mm256_madd_epi16(x, codes));
          }
        }
      }
      const __m256i shifted = _mm256_set1_epi32(job.shift * x_sum);
      for (int i = 0; i < 2; ++i) {
        __m256i sum = _mm256_sub_epi32(
            AddNeighbours(products[2 * i], products[2 * i + 1]), shifted);
        const int64_t at = run * 16 + i * 8;
        if (job.zeros != nullptr) {
          const __m256i zeros = _mm256_and_si256(
              _mm256_cvtepu8_epi32(
                  _mm_loadl_epi64(reinterpret_cast<const __m128i*>(
                      job.zeros + panel * job.runs * 16 + at))),
              _mm256_set1_epi32(job.zero_mask));
          sum = _mm256_sub_epi32(
              sum, _mm256_mullo_epi32(
                       zeros, _mm256_set1_epi32(job.zero_step * x_sum)));
        }
        outputs[i] = _mm256_fmadd_ps(_mm256_loadu_ps(scales + at),
                                     _mm256_cvtepi32_ps(sum), outputs[i]);
        if (minima != nullptr) {
          outputs[i] = _mm256_fmadd_ps(
              _mm256_loadu_ps(minima + at),
              _mm256_set1_ps(static_cast<float>(x_sum)), outputs[i]);
        }
      }
      if (--steps_left == 0) {
        ++run;
        steps_left = job.steps_per_run;
      }
    }
  }
  vec::Floats products[2];
  for (int i = 0; i < 2; ++i) {
    products[i] = outputs[i] * (job.row_scales[row] * job.factor);
  }
  vec::WriteRows<2>(job, row, 1, panel * 16, products);
}

}  // namespace

void RunsPanelsAvx2(const RunsJob& job, int64_t first_panel, int64_t end_panel,
                    int64_t first_row, int64_t end_row, std::byte* scratch) {
  auto* const numbers = reinterpret_cast<float*>(scratch + 1024);
  const auto one_row = job.planes[1] == nullptr ? OneRow<1> : OneRow<2>;
  for (int64_t panel = first_panel; panel < end_panel; ++panel) {
    const float* scales =
        vec::NumbersOf(job.scales, panel, 0, job.runs, numbers);
    const float* minima =
        vec::NumbersOf(job.minima, panel, 0, job.runs, numbers + job.runs * 16);
    for (int64_t row = first_row; row < end_row; ++row) {
      one_row(job, panel, row, scales, minima, scratch);
    }
  }
}

}  // namespace ounce::quant
