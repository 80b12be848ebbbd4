// Vectors of floats as wide as the instruction set that a file is compiled for,
// and the mathematics that kernels need on them: one source, several
// instruction sets.
//
// A file that includes this is compiled once per instruction set (see
// ounce_isa_sources in quant/CMakeLists.txt). Everything below lives in a
// namespace of that instruction set's, so that the linker never mixes two
// versions of one inline function; `vec` names the right one.
//
// Error: without hardware FMA (portable) Fma rounds twice; the bounds hold for
//   both. Results do not depend on the lane.
#ifndef OUNCE_QUANT_KERNELS_VECTOR_MATH_H_
#define OUNCE_QUANT_KERNELS_VECTOR_MATH_H_

#include <cmath>
#include <cstdint>

#if defined(__AMX_TILE__)
#define OUNCE_VEC vec_amx
#include <immintrin.h>
#elif defined(__AVX512BF16__)
#define OUNCE_VEC vec_avx512bf16
#include <immintrin.h>
#elif defined(__AVX512F__)
#define OUNCE_VEC vec_avx512
#include <immintrin.h>
#elif defined(__AVX2__) && defined(__FMA__)
#define OUNCE_VEC vec_avx2
#include <immintrin.h>
#else
#define OUNCE_VEC vec_portable
#endif

#if defined(__clang__)
#define OUNCE_UNROLL _Pragma("unroll")
#else
#define OUNCE_UNROLL _Pragma("GCC unroll 32")
#endif

namespace ounce::quant::OUNCE_VEC {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__) && defined(__FMA__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));

// Not Floats{} + value: that would be an addition, which turns -0 into 0.
inline Floats Set(float value) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(value);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_set1_ps(value);
#else
  return Floats{value, value, value, value};
#endif
}

inline Floats Load(const float* from) {
  Floats result;
  __builtin_memcpy(&result, from, sizeof result);
  return result;
}
inline void Store(Floats value, float* to) {
  __builtin_memcpy(to, &value, sizeof value);
}
inline Ints Load(const int32_t* from) {
  Ints result;
  __builtin_memcpy(&result, from, sizeof result);
  return result;
}
inline void Store(Ints value, int32_t* to) {
  __builtin_memcpy(to, &value, sizeof value);
}

// The first `count` lanes only (0 <= count, at most kLanes are used); a load
// fills the others with zero. Memory past them is not touched.
inline Floats LoadPart(const float* from, int64_t count) {
  if (count >= kLanes) return Load(from);
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
#else
  Floats result{};
  for (int i = 0; i < count; ++i) result[i] = from[i];
  return result;
#endif
}
inline void StorePart(Floats value, float* to, int64_t count) {
  if (count >= kLanes) return Store(value, to);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), value);
#else
  for (int i = 0; i < count; ++i) to[i] = value[i];
#endif
}

// a * b + c.
inline Floats Fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// a * b + c, rounded once by every instruction set; slow without hardware FMA.
inline Floats FusedFma(Floats a, Floats b, Floats c) {
#if defined(__FMA__)
  return Fma(a, b, c);
#else
  for (int i = 0; i < kLanes; ++i) c[i] = std::fma(a[i], b[i], c[i]);
  return c;
#endif
}

// By lane, a bit that tells whether the integer is negative.
inline uint32_t SignBits(Ints value) {
#if defined(__AVX512F__)
  return _mm512_cmplt_epi32_mask(reinterpret_cast<__m512i>(value),
                                 _mm512_setzero_si512());
#elif defined(__AVX2__) && defined(__FMA__)
  return static_cast<uint32_t>(
      _mm256_movemask_ps(reinterpret_cast<__m256>(value)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= uint32_t{value[i] < 0} << i;
  return bits;
#endif
}

// mask ? a : b, by lane; a mask is what comparing two Floats gives.
inline Floats Select(Ints mask, Floats a, Floats b) {
  return reinterpret_cast<Floats>((mask & reinterpret_cast<Ints>(a)) |
                                  (~mask & reinterpret_cast<Ints>(b)));
}

// The larger one; b where either is NaN.
inline Floats Max(Floats a, Floats b) { return Select(a > b, a, b); }

// Over all lanes, as a tree, so the same for every caller of one instruction
// set.
inline float ReduceAdd(Floats value) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) value[i] += value[i + half];
  }
  return value[0];
}
inline float ReduceMax(Floats value) {
  float result = value[0];
  for (int i = 1; i < kLanes; ++i) {
    if (value[i] > result) result = value[i];
  }
  return result;
}

// Nearest integer, ties to even, in the default rounding mode.
// Requires |x| < 2^22.
inline Floats Round(Floats x) {
  const Floats magic = Set(12582912.0f);  // 1.5 * 2^23: no fraction bits left
  return (x + magic) - magic;
}

// e^x. Error: at most 1.5e-7 relative where the result is a normal number;
// infinite above 88.73, 0 below -103.98, NaN for NaN.
inline Floats Exp(Floats x) {
  x = Select(x > Set(89.0f), Set(89.0f), x);
  x = Select(x < Set(-105.0f), Set(-105.0f), x);
  // x = n * ln 2 + r; n * 0.693359375 is exact.
  const Floats n = Round(x * 1.44269504088896341f);
  Floats r = Fma(n, Set(-0.693359375f), x);
  r = Fma(n, Set(2.12194440e-4f), r);
  Floats p = Set(1.9875691500e-4f);
  p = Fma(p, r, Set(1.3981999507e-3f));
  p = Fma(p, r, Set(8.3334519073e-3f));
  p = Fma(p, r, Set(4.1665795894e-2f));
  p = Fma(p, r, Set(1.6666665459e-1f));
  p = Fma(p, r, Set(5.0000001201e-1f));
  p = Fma(p, r * r, r) + 1.0f;
  // 2^n in two factors, since n may be 128 or below -126.
  const Ints exponent = reinterpret_cast<Ints>(n + 12582912.0f) - 0x4B400000;
  const Ints half = exponent >> 1;
  const Floats scale1 = reinterpret_cast<Floats>((half + 127) << 23);
  const Floats scale2 = reinterpret_cast<Floats>((exponent - half + 127) << 23);
  return p * scale1 * scale2;
}

// Gelu by a tanh, the "gelu_new" of transformers:
//   0.5 x (1 + tanh(u)),  u = sqrt(2 / pi) (x + 0.044715 x^3)
// as x / (1 + e^(-2u)), which has no cancellation for negative x.
// Error: at most 2e-7 * |x|; NaN for NaN.
inline Floats GeluTanh(Floats x) {
  const Floats cubic = Fma(x * x * 0.044715f, x, x);
  return x / (Exp(cubic * -1.5957691216057308f) + 1.0f);
}

// x Phi(x) = 0.5 x (1 + erf(x / sqrt(2))). With z = |x| / sqrt(2):
//   z < 1:  Phi(x) = 0.5 + x P(x^2), P to 1.3e-9 of itself
//   else    Phi(-|x|) = e^(-z^2) t Q(t), t = 1 / (1 + 0.4 z), Q to 2.4e-8 of
//           itself up to z = 9.5, where e^(-z^2) is subnormal
// so that the tail of negative x has no cancellation.
// Error: at most 2e-7 * |x|; NaN for NaN.
inline Floats Gelu(Floats x) {
  const Floats square = x * x;
  Floats p = Set(4.3386852511e-7f);
  p = Fma(p, square, Set(-8.8500965275e-6f));
  p = Fma(p, square, Set(1.1464692619e-4f));
  p = Fma(p, square, Set(-1.1867820308e-3f));
  p = Fma(p, square, Set(9.9733744675e-3f));
  p = Fma(p, square, Set(-6.6490356946e-2f));
  p = Fma(p, square, Set(3.9894227992e-1f));
  const Floats near = Fma(x, p, Set(0.5f));
  const Floats t = 1.0f / Fma(Max(x, -x), Set(0.28284271f), Set(1.0f));
  Floats q = Set(-5.8685423473e-2f);
  q = Fma(q, t, Set(1.2331699642e-1f));
  q = Fma(q, t, Set(2.4579966266e-3f));
  q = Fma(q, t, Set(1.0748214701e-1f));
  q = Fma(q, t, Set(9.9093017611e-2f));
  q = Fma(q, t, Set(1.1339422588e-1f));
  q = Fma(q, t, Set(1.1281040648e-1f));
  const Floats tail = q * t * Exp(square * -0.5f);
  const Floats far = Select(x < Floats{}, tail, 1.0f - tail);
  return x * Select(square < Set(2.0f), near, far);
}

// x / (1 + e^-x). Error: at most 2e-7 * |x|; NaN for NaN.
inline Floats Silu(Floats x) { return x / (Exp(-x) + 1.0f); }

// x, or `low` where x is less; NaN stays.
inline Floats AtLeast(Floats low, Floats x) {
#if defined(__AVX512F__)
  return _mm512_max_ps(low, x);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_max_ps(low, x);
#else
  return Select(x < low, low, x);
#endif
}

// x, or `high` where x is more; NaN stays.
inline Floats AtMost(Floats high, Floats x) {
#if defined(__AVX512F__)
  return _mm512_min_ps(high, x);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_min_ps(high, x);
#else
  return Select(high < x, high, x);
#endif
}

inline Floats Relu(Floats x) { return AtLeast(Floats{}, x); }

// Bits of |x|, which are ordered as magnitudes are, NaN above all.
inline Ints MagnitudeBits(Floats x) {
  return reinterpret_cast<Ints>(x) & 0x7FFFFFFF;
}
inline Floats Abs(Floats x) {
  return reinterpret_cast<Floats>(MagnitudeBits(x));
}

}  // namespace ounce::quant::OUNCE_VEC

namespace ounce::quant {
namespace vec = OUNCE_VEC;
}  // namespace ounce::quant

#endif  // OUNCE_QUANT_KERNELS_VECTOR_MATH_H_
