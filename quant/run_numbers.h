// Scales and minima of the runs of a weight (packed_weight.h), in few bytes.
#ifndef OUNCE_QUANT_RUN_NUMBERS_H_
#define OUNCE_QUANT_RUN_NUMBERS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ounce::quant {

enum class NumberType : uint8_t { kFloat32, kFloat16, kBFloat16, kByte };

constexpr int64_t SizeOf(NumberType type) {
  return type == NumberType::kFloat32 ? 4 : type == NumberType::kByte ? 1 : 2;
}

// How a number of each run and row is kept. Of kByte, in float32 and rounded
// after each operation,
//
//   number = f * coarse + plus
//
// where f is map[byte] or, without a map, (byte & mask) - bias; coarse is a
// float of more columns, and plus, if there is one, a float32 of the row.
struct NumberForm {
  NumberType type = NumberType::kFloat32;
  int mask = 255;
  int bias = 0;
  std::vector<float> map = {};  // empty or 256
  NumberType coarse_type = NumberType::kFloat32;
  int64_t coarse_cols = 0;  // a multiple of those of a run
  bool has_plus = false;
};

// The numbers themselves: in each panel [runs][16 rows], one panel behind
// another. Not owned.
struct RunNumbers {
  NumberType type = NumberType::kFloat32;
  const std::byte* values = nullptr;  // null: there are none
  int64_t runs = 0;                   // of a row
  int mask = 255;
  int bias = 0;
  const float* map = nullptr;
  NumberType coarse_type = NumberType::kFloat32;
  const std::byte* coarse = nullptr;  // [panels][coarse_runs][16]
  int64_t coarse_runs = 0;
  int64_t runs_per_coarse = 1;
  const float* plus = nullptr;  // [panels][16], or null

  // The number of a run of a row: slow and plain, what kernels are held to.
  float At(int64_t row, int64_t run) const;
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_RUN_NUMBERS_H_
