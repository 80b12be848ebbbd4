// Scales and minima of runs as floats. Included by the files that are compiled
// per instruction set.
#ifndef OUNCE_QUANT_KERNELS_RUN_NUMBERS_IMPL_H_
#define OUNCE_QUANT_KERNELS_RUN_NUMBERS_IMPL_H_

#include <cstddef>
#include <cstdint>

#include "quant/dtype.h"
#include "quant/kernels/bfloat16_math.h"
#include "quant/kernels/vector_math.h"
#include "quant/run_numbers.h"

namespace ounce::quant::OUNCE_VEC {

inline Floats LoadHalves(const std::byte* from) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_cvtph_ps(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
  Floats result;
  for (int i = 0; i < kLanes; ++i) {
    uint16_t half;
    __builtin_memcpy(&half, from + i * 2, sizeof half);
    result[i] = HalfToFloat(half);
  }
  return result;
#endif
}

// As wider integers. (g++ 12 converts vectors of bytes one by one.)
inline Ints LoadBytes(const std::byte* from) {
#if defined(__AVX512F__)
  return reinterpret_cast<Ints>(_mm512_cvtepu8_epi32(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#elif defined(__AVX2__) && defined(__FMA__)
  return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(
      _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
  typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
  Bytes bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(bytes, Ints);
#endif
}

// kLanes floats of a type from the one with the index on.
inline Floats LoadFloats(NumberType type, const std::byte* floats,
                         int64_t index) {
  switch (type) {
    case NumberType::kFloat16:
      return LoadHalves(floats + index * 2);
    case NumberType::kBFloat16:
      return LoadBFloat16(reinterpret_cast<const uint16_t*>(floats) + index);
    default:
      return Load(reinterpret_cast<const float*>(floats) + index);
  }
}

inline Floats Gather(const float* map, Ints indexes) {
#if defined(__AVX512F__)
  return _mm512_i32gather_ps(reinterpret_cast<__m512i>(indexes), map, 4);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_i32gather_ps(map, reinterpret_cast<__m256i>(indexes), 4);
#else
  Floats result;
  for (int i = 0; i < kLanes; ++i) result[i] = map[indexes[i]];
  return result;
#endif
}

// Numbers of runs [first, first + count) of a panel to [count][16]. Takes what
// says where they are by value: no store through `to` changes that.
inline void Expand(const RunNumbers numbers, int64_t panel, int64_t first,
                   int64_t count, float* to) {
  const int64_t begin = (panel * numbers.runs + first) * 16;
  if (numbers.type != NumberType::kByte) {
    for (int64_t i = 0; i < count * 16; i += kLanes) {
      Store(LoadFloats(numbers.type, numbers.values, begin + i), to + i);
    }
    return;
  }
  constexpr int kVectors = 16 / kLanes;
  int64_t coarse_index = first / numbers.runs_per_coarse;
  int64_t left = (coarse_index + 1) * numbers.runs_per_coarse - first;
  const std::byte* bytes = numbers.values + begin;
  while (count > 0) {
    // Those that share a coarse number.
    Floats coarse[kVectors], plus[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      coarse[v] = LoadFloats(
          numbers.coarse_type, numbers.coarse,
          (panel * numbers.coarse_runs + coarse_index) * 16 + v * kLanes);
      plus[v] = numbers.plus == nullptr
                    ? Set(-0.0f)  // changes no number
                    : Load(numbers.plus + panel * 16 + v * kLanes);
    }
    const int64_t end = left < count ? left : count;
    for (int64_t i = 0; i < end; ++i, bytes += 16, to += 16) {
      for (int v = 0; v < kVectors; ++v) {
        const Ints byte = LoadBytes(bytes + v * kLanes);
        const Floats number =
            numbers.map != nullptr
                ? Gather(numbers.map, byte)
                : __builtin_convertvector((byte & numbers.mask) - numbers.bias,
                                          Floats);
        Store(number * coarse[v] + plus[v], to + v * kLanes);
      }
    }
    count -= end;
    ++coarse_index;
    left = numbers.runs_per_coarse;
  }
}

// Numbers of runs [first, first + count) of a panel, [count][16]: where they
// lie, or in `to`; null if the weight has none.
__attribute__((noinline)) inline const float* NumbersOf(
    const RunNumbers& numbers, int64_t panel, int64_t first, int64_t count,
    float* to) {
  if (numbers.values == nullptr) return nullptr;
  const int64_t begin = (panel * numbers.runs + first) * 16;
  if (numbers.type == NumberType::kFloat32) {
    return reinterpret_cast<const float*>(numbers.values) + begin;
  }
  // What comes after them: numbers are read at once, and then none for a while,
  // which the hardware's own prefetching does not follow.
  const int64_t size = SizeOf(numbers.type);
  const std::byte* soon = numbers.values + (begin + count * 16) * size;
  for (int64_t i = 0; i < count * 16 * size; i += 64) {
    __builtin_prefetch(soon + i);
  }
  Expand(numbers, panel, first, count, to);
  return to;
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_RUN_NUMBERS_IMPL_H_
