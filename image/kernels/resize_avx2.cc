// Multiply-add of pairs of 16-bit integers, which a weight's two halves fit.
// Both sums stay below 2^31: the weights of a position add up to one.
#include "image/kernels/resize.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace ounce::image {
namespace {

__m256i Rounded(__m256i high, __m256i low) {
  const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, kLowBits), low);
  return _mm256_srai_epi32(
      _mm256_add_epi32(sum, _mm256_set1_epi32(1 << (kWeightBits - 1))),
      kWeightBits);
}

// Two positions of kRowsAtOnce rows at a time would need more registers than
// there are; so one, four taps a step: the lower half of a register takes taps
// 0 and 1, the upper 2 and 3, each as pairs (r r)(g g)(b b)(0 0).
void Horizontal(const FilterView& filter, const uint8_t* const* rows,
                uint8_t* const* out) {
  constexpr char z = -128;
  const __m256i pixel_pairs =
      _mm256_setr_epi8(0, z, 3, z, 1, z, 4, z, 2, z, 5, z, z, z, z, z,  //
                       6, z, 9, z, 7, z, 10, z, 8, z, 11, z, z, z, z, z);
  const __m256i weight_pairs =
      _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,  //
                       4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7);
  for (int64_t i = 0; i < filter.positions; ++i) {
    const int64_t offset = filter.first[i] * int64_t{3};
    const int16_t* high = filter.high + i * filter.taps;
    const int16_t* low = filter.low + i * filter.taps;
    __m256i high_sums[kRowsAtOnce];
    __m256i low_sums[kRowsAtOnce];
    for (int r = 0; r < kRowsAtOnce; ++r) {
      high_sums[r] = low_sums[r] = _mm256_setzero_si256();
    }
    for (int64_t t = 0; t < filter.count[i]; t += kTapGroup) {
      const __m256i h = _mm256_shuffle_epi8(
          _mm256_broadcastq_epi64(
              _mm_loadl_epi64(reinterpret_cast<const __m128i*>(high + t))),
          weight_pairs);
      const __m256i l = _mm256_shuffle_epi8(
          _mm256_broadcastq_epi64(
              _mm_loadl_epi64(reinterpret_cast<const __m128i*>(low + t))),
          weight_pairs);
      for (int r = 0; r < kRowsAtOnce; ++r) {
        const __m256i pixels = _mm256_shuffle_epi8(
            _mm256_broadcastsi128_si256(_mm_loadu_si128(
                reinterpret_cast<const __m128i*>(rows[r] + offset + t * 3))),
            pixel_pairs);
        high_sums[r] =
            _mm256_add_epi32(high_sums[r], _mm256_madd_epi16(pixels, h));
        low_sums[r] =
            _mm256_add_epi32(low_sums[r], _mm256_madd_epi16(pixels, l));
      }
    }
    // Rows r and r + 1 side by side, their halves added.
    for (int r = 0; r < kRowsAtOnce; r += 2) {
      const auto folded = [r](const __m256i* sums) {
        return _mm256_add_epi32(
            _mm256_permute2x128_si256(sums[r], sums[r + 1], 0x20),
            _mm256_permute2x128_si256(sums[r], sums[r + 1], 0x31));
      };
      const __m256i value = Rounded(folded(high_sums), folded(low_sums));
      const __m256i words = _mm256_packs_epi32(value, value);
      const __m256i bytes = _mm256_packus_epi16(words, words);
      const uint32_t first = _mm256_extract_epi32(bytes, 0);
      const uint32_t second = _mm256_extract_epi32(bytes, 4);
      uint8_t* a = out[r] + i * 3;
      uint8_t* b = out[r + 1] + i * 3;
      a[0] = static_cast<uint8_t>(first);
      a[1] = static_cast<uint8_t>(first >> 8);
      a[2] = static_cast<uint8_t>(first >> 16);
      b[0] = static_cast<uint8_t>(second);
      b[1] = static_cast<uint8_t>(second >> 8);
      b[2] = static_cast<uint8_t>(second >> 16);
    }
  }
}

// 32 bytes of the output row; `taps` is even.
__m256i VerticalBlock(const uint8_t* const* rows, const int16_t* high,
                      const int16_t* low, int64_t taps, int64_t x) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i high_sums[4] = {zero, zero, zero, zero};
  __m256i low_sums[4] = {zero, zero, zero, zero};
  for (int64_t t = 0; t < taps; t += 2) {
    // Both weights of the pair, as one 32-bit word.
    const __m256i h = _mm256_set1_epi32(static_cast<uint16_t>(high[t]) |
                                        high[t + 1] * (1 << 16));
    const __m256i l = _mm256_set1_epi32(static_cast<uint16_t>(low[t]) |
                                        low[t + 1] * (1 << 16));
    const __m256i a =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[t] + x));
    const __m256i b =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[t + 1] + x));
    const __m256i lower = _mm256_unpacklo_epi8(a, b);
    const __m256i upper = _mm256_unpackhi_epi8(a, b);
    const __m256i pairs[4] = {
        _mm256_unpacklo_epi8(lower, zero), _mm256_unpackhi_epi8(lower, zero),
        _mm256_unpacklo_epi8(upper, zero), _mm256_unpackhi_epi8(upper, zero)};
    for (int j = 0; j < 4; ++j) {
      high_sums[j] =
          _mm256_add_epi32(high_sums[j], _mm256_madd_epi16(pairs[j], h));
      low_sums[j] =
          _mm256_add_epi32(low_sums[j], _mm256_madd_epi16(pairs[j], l));
    }
  }
  // The packs undo the unpacks, lane by lane.
  return _mm256_packus_epi16(
      _mm256_packs_epi32(Rounded(high_sums[0], low_sums[0]),
                         Rounded(high_sums[1], low_sums[1])),
      _mm256_packs_epi32(Rounded(high_sums[2], low_sums[2]),
                         Rounded(high_sums[3], low_sums[3])));
}

void Vertical(const uint8_t* const* rows, const int16_t* high,
              const int16_t* low, int64_t taps, int64_t bytes, uint8_t* out) {
  int64_t x = 0;
  for (; x + 32 <= bytes; x += 32) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + x),
                        VerticalBlock(rows, high, low, taps, x));
  }
  if (x == bytes) return;
  alignas(32) uint8_t tail[32];
  _mm256_store_si256(reinterpret_cast<__m256i*>(tail),
                     VerticalBlock(rows, high, low, taps, x));
  for (int64_t j = 0; x + j < bytes; ++j) out[x + j] = tail[j];
}

}  // namespace

extern constexpr ResizeKernels kResizeAvx2 = {Horizontal, Vertical};

}  // namespace ounce::image
#endif
