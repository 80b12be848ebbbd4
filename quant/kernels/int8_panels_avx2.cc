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

template <int kPlanes>
void OneRow(const Int8Job& job, int64_t panel, int64_t row,
            std::byte* scratch) {
  const int64_t start = PlaneStart(row, job.blocks);
  const int64_t stride = PlaneStride(row, job.rows);
  __m256i sums[kPlanes][4] = {};
  for (int64_t block = 0; block < job.blocks; ++block) {
    const std::byte* packed =
        job.tiles + (panel * job.blocks + block) * job.tile_bytes;
    const auto* tile = reinterpret_cast<const __m128i*>(
        job.unpack ? job.unpack(packed, scratch) : packed);
    const uint8_t* planes[kPlanes];
    for (int k = 0; k < kPlanes; ++k) {
      planes[k] = job.planes[k] + start + block * stride;
    }
    for (int col = 0; col < 64; col += 4) {
      __m256i x[kPlanes];
      OUNCE_UNROLL
      for (int k = 0; k < kPlanes; ++k) x[k] = SpreadFour(planes[k] + col);
      OUNCE_UNROLL
      for (int i = 0; i < 4; ++i) {  // four channels each
        const __m256i codes =
            _mm256_cvtepi8_epi16(_mm_load_si128(tile + col + i));
        OUNCE_UNROLL
        for (int k = 0; k < kPlanes; ++k) {
          sums[k][i] =
              _mm256_add_epi32(sums[k][i], _mm256_madd_epi16(x[k], codes));
        }
      }
    }
  }
  vec::Floats products[2];
  for (int i = 0; i < 2; ++i) {
    vec::Ints of_planes[kPlanes];
    for (int k = 0; k < kPlanes; ++k) {
      of_planes[k] = AddNeighbours(sums[k][2 * i], sums[k][2 * i + 1]);
    }
    products[i] =
        vec::Int8Product<kPlanes>(job, row, panel * 16 + i * 8, of_planes);
  }
  vec::WriteRows<2>(job, row, 1, panel * 16, products);
}

}  // namespace

void Int8PanelsAvx2(const Int8Job& job, int64_t first_panel, int64_t end_panel,
                    int64_t first_row, int64_t end_row, std::byte* scratch) {
  for (int64_t panel = first_panel; panel < end_panel; ++panel) {
    for (int64_t row = first_row; row < end_row; ++row) {
      (job.planes[1] == nullptr ? OneRow<1> : OneRow<2>)(job, panel, row,
                                                         scratch);
    }
  }
}

}  // namespace ounce::quant
