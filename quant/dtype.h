// Element types of stored tensors, and conversions to and from float32.
#ifndef OUNCE_QUANT_DTYPE_H_
#define OUNCE_QUANT_DTYPE_H_

#include <cstdint>
#include <optional>
#include <string_view>

namespace ounce::quant {

// The last ones stand in checkpoints beside tensors that are needed, and are
// counted, never read.
enum class DType {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kU64,
  kU32,
  kU16,
  kC64,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
};

int SizeOf(DType dtype);             // bytes per element
bool IsFloat(DType dtype);           // kF64 to kBF16
std::string_view Name(DType dtype);  // "float32", "float16", "bool", ...
std::optional<DType> ParseDType(std::string_view name);  // the reverse of Name

// Converts `count` elements at `data` (any alignment, little-endian) to
// float32: exact for kF32, kF16 and kBF16, rounded to nearest even for kF64.
// Requires IsFloat(dtype).
void ToFloat(DType dtype, const void* data, int64_t count, float* out);

// The reverse, rounded to nearest even: to kF32, kF16 or kBF16.
void FromFloat(DType dtype, const float* values, int64_t count, void* out);

// IEEE binary16 and bfloat16, rounded to nearest even; NaN stays a quiet NaN.
uint16_t FloatToHalf(float value);
float HalfToFloat(uint16_t bits);
uint16_t FloatToBFloat16(float value);
float BFloat16ToFloat(uint16_t bits);

// `value` as it is after a trip through `dtype` (kF32, kF16 or kBF16).
float RoundTo(DType dtype, float value);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_DTYPE_H_
