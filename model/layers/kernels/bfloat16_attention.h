// What kernels of dense attention that multiply pairs of bfloat16 share: how
// keys and values are packed, and exponentials as good as rounding them to
// bfloat16 is worth. For files that are compiled for AVX-512.
//
// Packed: keys [16 keys][32 columns] as [16 pairs of columns][16 keys][2], then
// values [32 keys][16 columns] as [16 pairs of keys][16 columns][2]: dense
// tiles of 1 KiB, zeros where there is no key or column. A pair of keys are
// keys i and i + 16.
#ifndef OUNCE_MODEL_LAYERS_KERNELS_BFLOAT16_ATTENTION_H_
#define OUNCE_MODEL_LAYERS_KERNELS_BFLOAT16_ATTENTION_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "model/layers/kernels/dense_attention_kernels.h"
#include "quant/kernels/bfloat16_math.h"
#include "quant/kernels/vector_math.h"

namespace ounce::model::OUNCE_VEC {

using quant::vec::Floats;
using quant::vec::Fma;
using quant::vec::LoadPart;
using quant::vec::RoundedToBFloat16;

inline constexpr int64_t kTile = 1024;  // bytes

inline __m512i Bits(Floats value) { return reinterpret_cast<__m512i>(value); }

inline __m512i Rounded(Floats value) {
  return reinterpret_cast<__m512i>(RoundedToBFloat16(value));
}

// The upper halves of two vectors, one behind the other.
inline __m512i UpperHalves(__m512i first, __m512i second) {
  alignas(64) static constexpr uint16_t kOdd[32] = {
      1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
      33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16(first, _mm512_load_si512(kOdd), second);
}

// The same, in turn.
inline __m512i Interleaved(__m512i even, __m512i odd) {
  return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(even, 16), odd);
}

// 32 numbers times `scale`, of which `count` are there, in bfloat16.
inline __m512i Row32(const float* x, int64_t count, float scale) {
  const Floats second = count > 16 ? LoadPart(x + 16, count - 16) : Floats{};
  return UpperHalves(Rounded(LoadPart(x, count) * scale),
                     Rounded(second * scale));
}

inline void PackHead(const DensePackJob& job) {
  const int64_t keys = RoundUpTo(kDenseKeyBlock, job.keys);
  std::byte* tile = job.packed;
  for (int64_t first = 0; first < keys; first += 16) {
    for (int64_t d = 0; d < job.head_dim; d += 32) {
      alignas(64) uint32_t pairs[16][16];
      for (int64_t i = 0; i < 16; ++i) {
        const int64_t key = first + i;
        _mm512_store_si512(pairs[i], key < job.keys
                                         ? Row32(job.k + key * job.k_stride + d,
                                                 job.head_dim - d, 1)
                                         : _mm512_setzero_si512());
      }
      auto* transposed = reinterpret_cast<uint32_t*>(tile);
      for (int64_t i = 0; i < 16; ++i) {
        for (int64_t j = 0; j < 16; ++j) transposed[i * 16 + j] = pairs[j][i];
      }
      tile += kTile;
    }
  }
  for (int64_t first = 0; first < keys; first += 32) {
    for (int64_t d = 0; d < job.head_dim; d += 16) {
      const auto value = [&](int64_t key) {
        return key < job.keys ? Rounded(LoadPart(job.v + key * job.v_stride + d,
                                                 job.head_dim - d))
                              : _mm512_setzero_si512();
      };
      for (int64_t i = 0; i < 16; ++i) {
        _mm512_store_si512(tile + i * 64, Interleaved(value(first + i),
                                                      value(first + 16 + i)));
      }
      tile += kTile;
    }
  }
}

// 2^x for x <= 0, within 7.5e-5 of itself, a small part of what rounding to
// bfloat16 does; NaN for NaN.
inline Floats Exp2(Floats x) {
  // x = n + r, 0 <= r < 1, and a polynomial for 2^r.
  const Floats r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
  Floats p = Fma(Floats{} + 0.0780245168f, r, Floats{} + 0.226067164f);
  p = Fma(p, r, Floats{} + 0.695833538f);
  p = Fma(p, r, Floats{} + 0.999925219f);
  return _mm512_scalef_ps(p, x);
}

}  // namespace ounce::model::OUNCE_VEC

#endif  // OUNCE_MODEL_LAYERS_KERNELS_BFLOAT16_ATTENTION_H_
