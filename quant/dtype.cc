#include "quant/dtype.h"

#include <immintrin.h>

#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/cpu.h"

namespace ounce::quant {
namespace {

struct DTypeInfo {
  DType dtype;
  int size;
  bool is_float;
  std::string_view name;
};

constexpr DTypeInfo kInfos[] = {
    {DType::kF64, 8, true, "float64"},
    {DType::kF32, 4, true, "float32"},
    {DType::kF16, 2, true, "float16"},
    {DType::kBF16, 2, true, "bfloat16"},
    {DType::kI64, 8, false, "int64"},
    {DType::kI32, 4, false, "int32"},
    {DType::kI16, 2, false, "int16"},
    {DType::kI8, 1, false, "int8"},
    {DType::kU8, 1, false, "uint8"},
    {DType::kBool, 1, false, "bool"},
    {DType::kU64, 8, false, "uint64"},
    {DType::kU32, 4, false, "uint32"},
    {DType::kU16, 2, false, "uint16"},
    {DType::kC64, 8, false, "complex64"},
    {DType::kF8E4M3, 1, false, "float8_e4m3fn"},
    {DType::kF8E5M2, 1, false, "float8_e5m2"},
    {DType::kF8E8M0, 1, false, "float8_e8m0fnu"},
};

const DTypeInfo& Info(DType dtype) { return kInfos[static_cast<int>(dtype)]; }

template <class T>
T LoadAt(const void* data, int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(data) + index * sizeof(T),
              sizeof value);
  return value;
}

// Returns how many elements it converted, a multiple of eight. (These are
// functions of one file and so need no namespace per instruction set.)
__attribute__((target("avx,f16c"))) int64_t HalvesToFloats(const void* data,
                                                           int64_t count,
                                                           float* out) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(
        static_cast<const std::byte*>(data) + i * 2));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(halves));
  }
  return i;
}

__attribute__((target("avx,f16c"))) int64_t FloatsToHalves(const float* values,
                                                           int64_t count,
                                                           void* out) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves =
        _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(static_cast<std::byte*>(out) + i * 2),
        halves);
  }
  return i;
}

template <class T>
void StoreAt(void* data, int64_t index, T value) {
  std::memcpy(static_cast<std::byte*>(data) + index * sizeof(T), &value,
              sizeof value);
}

}  // namespace

int SizeOf(DType dtype) { return Info(dtype).size; }
bool IsFloat(DType dtype) { return Info(dtype).is_float; }
std::string_view Name(DType dtype) { return Info(dtype).name; }

std::optional<DType> ParseDType(std::string_view name) {
  for (const DTypeInfo& info : kInfos) {
    if (info.name == name) return info.dtype;
  }
  return std::nullopt;
}

void ToFloat(DType dtype, const void* data, int64_t count, float* out) {
  switch (dtype) {
    case DType::kF64:
      for (int64_t i = 0; i < count; ++i) {
        out[i] = static_cast<float>(LoadAt<double>(data, i));
      }
      return;
    case DType::kF32:
      if (count > 0) std::memcpy(out, data, count * sizeof(float));
      return;
    case DType::kF16: {
      int64_t i =
          BestIsa() >= Isa::kAvx2 ? HalvesToFloats(data, count, out) : 0;
      for (; i < count; ++i) out[i] = HalfToFloat(LoadAt<uint16_t>(data, i));
      return;
    }
    case DType::kBF16:
      for (int64_t i = 0; i < count; ++i) {
        out[i] = BFloat16ToFloat(LoadAt<uint16_t>(data, i));
      }
      return;
    default:
      OUNCE_CHECK(IsFloat(dtype), "only float elements convert to float");
  }
}

void FromFloat(DType dtype, const float* values, int64_t count, void* out) {
  switch (dtype) {
    case DType::kF32:
      if (count > 0) std::memcpy(out, values, count * sizeof(float));
      return;
    case DType::kF16: {
      int64_t i =
          BestIsa() >= Isa::kAvx2 ? FloatsToHalves(values, count, out) : 0;
      for (; i < count; ++i) StoreAt(out, i, FloatToHalf(values[i]));
      return;
    }
    case DType::kBF16:
      for (int64_t i = 0; i < count; ++i) {
        StoreAt(out, i, FloatToBFloat16(values[i]));
      }
      return;
    default:
      OUNCE_CHECK(false, "floats become float32, float16 or bfloat16");
  }
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) {  // NaN: quiet, with what payload fits
    return static_cast<uint16_t>(sign | 0x7E00 | (magnitude >> 13 & 0x1FF));
  }
  if (magnitude >= 0x47800000) return static_cast<uint16_t>(sign | 0x7C00);
  if (magnitude < 0x38800000) {
    // Below the smallest normal half, 2^-14: adding 0.5, whose last place is
    // 2^-24, rounds to the steps of a subnormal half.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(
        sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000));
  }
  // Exponent bias from 127 to 15, then nearest even on the 13 bits cut off; a
  // carry into the exponent is right, up to infinity.
  const uint32_t rebased = magnitude - 0x38000000;
  return static_cast<uint16_t>(sign |
                               ((rebased + 0xFFF + (rebased >> 13 & 1)) >> 13));
}

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = bits >> 10 & 31;
  const uint32_t fraction = bits & 0x3FF;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  if (exponent == 31) {
    const uint32_t quiet = fraction == 0 ? 0 : 0x400000;
    return std::bit_cast<float>(sign | 0x7F800000 | quiet | fraction << 13);
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t FloatToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) {
    return static_cast<uint16_t>(bits >> 16 | 0x40);
  }
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float BFloat16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

float RoundTo(DType dtype, float value) {
  switch (dtype) {
    case DType::kF16:
      return HalfToFloat(FloatToHalf(value));
    case DType::kBF16:
      return BFloat16ToFloat(FloatToBFloat16(value));
    default:
      OUNCE_CHECK(dtype == DType::kF32, "kF32, kF16 or kBF16 only");
      return value;
  }
}

}  // namespace ounce::quant
