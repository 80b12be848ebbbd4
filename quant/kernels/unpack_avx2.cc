#include <immintrin.h>

#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

inline __m256i LoadPairs(const std::byte* packed, int i) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(packed) + i);
}

// The low halves of eight 32-bit integers that fit 16 bits, in order.
inline __m128i Narrow(__m256i wide) {
  return _mm_packus_epi32(_mm256_castsi256_si128(wide),
                          _mm256_extracti128_si256(wide, 1));
}

}  // namespace

const void* UnpackBFloat16Avx2(const std::byte* packed, void* scratch) {
  auto* to = static_cast<float*>(scratch);
  const __m256i high_half = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
  for (int i = 0; i < 64; ++i) {  // half a pair of columns: eight rows
    const __m256i pairs = LoadPairs(packed, i);
    float* even = to + i / 2 * 32 + i % 2 * 8;
    _mm256_store_ps(even, _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)));
    _mm256_store_ps(even + 16,
                    _mm256_castsi256_ps(_mm256_and_si256(pairs, high_half)));
  }
  return scratch;
}

const void* UnpackFloat16Avx2(const std::byte* packed, void* scratch) {
  auto* to = static_cast<float*>(scratch);
  const __m256i low_half = _mm256_set1_epi32(0xFFFF);
  for (int i = 0; i < 64; ++i) {
    const __m256i pairs = LoadPairs(packed, i);
    float* even = to + i / 2 * 32 + i % 2 * 8;
    _mm256_store_ps(even,
                    _mm256_cvtph_ps(Narrow(_mm256_and_si256(pairs, low_half))));
    _mm256_store_ps(even + 16,
                    _mm256_cvtph_ps(Narrow(_mm256_srli_epi32(pairs, 16))));
  }
  return scratch;
}

namespace {

// The 32 bits at `from` as bytes 0 or `value`.
inline __m256i SpreadBits(const std::byte* from, int value) {
  int32_t bits;
  __builtin_memcpy(&bits, from, sizeof bits);
  const __m256i places = _mm256_setr_epi64x(
      0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i one_each =
      _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), places);
  const __m256i set =
      _mm256_cmpeq_epi8(_mm256_and_si256(spread, one_each), one_each);
  return _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(value)));
}

}  // namespace

template <int kBits>
const void* UnpackPlanesAvx2(const std::byte* packed, void* scratch) {
  auto* to = static_cast<__m256i*>(scratch);
  for (int i = 0; i < 32; ++i) {  // half a group
    const int group = i / 2;
    __m256i codes = _mm256_setzero_si256();
    if constexpr ((kBits & 4) != 0) {
      const __m256i two = LoadPairs(packed, group / 2 * 2 + i % 2);
      codes = _mm256_and_si256(_mm256_srli_epi16(two, group % 2 * 4),
                               _mm256_set1_epi8(15));
    }
    if constexpr ((kBits & 2) != 0) {
      const __m256i four =
          LoadPairs(packed + PlaneOffset(kBits, 2), group / 4 * 2 + i % 2);
      const __m256i bits = _mm256_and_si256(
          _mm256_srli_epi16(four, group % 4 * 2), _mm256_set1_epi8(3));
      codes = _mm256_or_si256(codes, _mm256_slli_epi16(bits, kBits & 4));
    }
    if constexpr ((kBits & 1) != 0) {
      codes = _mm256_or_si256(
          codes,
          SpreadBits(packed + PlaneOffset(kBits, 1) + i * 4, 1 << (kBits & 6)));
    }
    _mm256_store_si256(to + i, codes);
  }
  return scratch;
}

template UnpackCodes UnpackPlanesAvx2<1>;
template UnpackCodes UnpackPlanesAvx2<2>;
template UnpackCodes UnpackPlanesAvx2<3>;
template UnpackCodes UnpackPlanesAvx2<4>;
template UnpackCodes UnpackPlanesAvx2<5>;
template UnpackCodes UnpackPlanesAvx2<6>;
template UnpackCodes UnpackPlanesAvx2<7>;

}  // namespace ounce::quant
