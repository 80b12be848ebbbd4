// Bytes widened to 16 bits, then VPMADDWD. (VPMADDUBSW would need no widening,
// but it saturates.)
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

// Four bytes at `from`, as four 16-bit integers, four times over.
inline __m256i SpreadFour(const uint8_t* from) {
  int32_t bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return _mm256_cvtepu8_epi16(_mm_set1_epi32(bytes));
}

// Eight 32-bit sums of neighbours: [a01 a23 b01 b23 ...] of two registers that
// hold channels 0-3 and 4-7 becomes channels 0-7.
inline vec::Ints AddNeighbours(__m256i low, __m256i high) {
  const __m256i mixed = _mm256_hadd_epi32(low, high);  // 0 1 4 5 2 3 6 7
  return reinterpret_cast<vec::Ints>(
      _mm256_permute4x64_epi64(mixed, _MM_SHUFFLE(3, 1, 2, 0)));
}

void OneRow(const Int8Job& job, int64_t panel, int64_t row,
            std::byte* scratch) {
  const int64_t start = PlaneStart(row, job.blocks);
  const int64_t stride = PlaneStride(row, job.rows);
  __m256i hi_sums[4] = {};
  __m256i lo_sums[4] = {};
  for (int64_t block = 0; block < job.blocks; ++block) {
    const std::byte* packed =
        job.tiles + (panel * job.blocks + block) * job.tile_bytes;
    const auto* tile = reinterpret_cast<const __m128i*>(
        job.unpack ? job.unpack(packed, scratch) : packed);
    const uint8_t* hi = job.hi + start + block * stride;
    const uint8_t* lo = job.lo + start + block * stride;
    for (int col = 0; col < 64; col += 4) {
      const __m256i x_hi = SpreadFour(hi + col);
      const __m256i x_lo = SpreadFour(lo + col);
      OUNCE_UNROLL
      for (int i = 0; i < 4; ++i) {  // four channels each
        const __m256i codes =
            _mm256_cvtepi8_epi16(_mm_load_si128(tile + col + i));
        hi_sums[i] =
            _mm256_add_epi32(hi_sums[i], _mm256_madd_epi16(x_hi, codes));
        lo_sums[i] =
            _mm256_add_epi32(lo_sums[i], _mm256_madd_epi16(x_lo, codes));
      }
    }
  }
  vec::Floats products[2];
  for (int i = 0; i < 2; ++i) {
    products[i] =
        vec::Int8Product(job, row, panel * 16 + i * 8,
                         AddNeighbours(hi_sums[2 * i], hi_sums[2 * i + 1]),
                         AddNeighbours(lo_sums[2 * i], lo_sums[2 * i + 1]));
  }
  vec::WriteRows<2>(job, row, 1, panel * 16, products);
}

}  // namespace

void Int8PanelsAvx2(const Int8Job& job, int64_t first_panel, int64_t end_panel,
                    int64_t first_row, int64_t end_row, std::byte* scratch) {
  for (int64_t panel = first_panel; panel < end_panel; ++panel) {
    for (int64_t row = first_row; row < end_row; ++row) {
      OneRow(job, panel, row, scratch);
    }
  }
}

}  // namespace ounce::quant
