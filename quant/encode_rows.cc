#include "quant/encode_rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {
namespace {

// Without an end before the last, so that compilers take several at once.
bool AllFinite(const float* values, int64_t count) {
  constexpr uint32_t kExponent = 0x7F800000;
  uint32_t found = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(values[i]);
    found |= static_cast<uint32_t>((bits & kExponent) == kExponent);
  }
  return found == 0;
}

absl::Status CheckFinite(const FloatRows& weight, int64_t row,
                         const float* values) {
  if (AllFinite(values, weight.cols())) return absl::OkStatus();
  const float* found =
      std::find_if_not(values, values + weight.cols(),
                       [](float value) { return std::isfinite(value); });
  return RefuseValue(weight, row, found - values, *found,
                     "is not a finite number");
}

__attribute__((always_inline)) inline Extent ExtentIn(const float* values,
                                                      int64_t count) {
  // Ranges that do not wait for each other.
  constexpr int64_t kLanes = 16;
  float min[kLanes] = {}, max[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      min[lane] = std::min(values[i + lane], min[lane]);
      max[lane] = std::max(values[i + lane], max[lane]);
    }
  }
  Extent extent;
  for (; i < count; ++i) {
    extent.min = std::min(values[i], extent.min);
    extent.max = std::max(values[i], extent.max);
  }
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    extent.min = std::min(min[lane], extent.min);
    extent.max = std::max(max[lane], extent.max);
  }
  return extent;
}
// (Functions of one file need no namespace per instruction set.)
Extent ExtentPortable(const float* values, int64_t count) {
  return ExtentIn(values, count);
}
__attribute__((target("avx2"))) Extent ExtentAvx2(const float* values,
                                                  int64_t count) {
  return ExtentIn(values, count);
}

}  // namespace

absl::Status RefuseValue(const FloatRows& weight, int64_t row, int64_t col,
                         float value, std::string_view reason) {
  return absl::InvalidArgumentError(
      StrCat(weight.Place(row, col), ": ", value, " ", reason));
}

Extent ExtentOf(const float* values, int64_t count) {
  return (BestIsa() >= Isa::kAvx2 ? ExtentAvx2 : ExtentPortable)(values, count);
}

float LargestMagnitude(const float* values, int64_t count) {
  const Extent extent = ExtentOf(values, count);
  return std::max({0.0f, -extent.min, extent.max});
}

absl::Status ForEachRow(
    const FloatRows& weight,
    absl::FunctionRef<void(int64_t row, const float* values)> take) {
  constexpr int64_t kBandElements = 1 << 18;
  const int64_t cols = weight.cols();
  const int64_t at_once = std::max<int64_t>(1, kBandElements / cols);
  std::vector<float> values(std::min(at_once, weight.rows()) * cols);
  for (int64_t first = 0; first < weight.rows(); first += at_once) {
    const int64_t count = std::min(at_once, weight.rows() - first);
    RETURN_IF_ERROR(weight.Read(first, count, values.data()));
    for (int64_t i = 0; i < count; ++i) {
      RETURN_IF_ERROR(CheckFinite(weight, first + i, &values[i * cols]));
      take(first + i, &values[i * cols]);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> LargestMagnitudes(const FloatRows& weight,
                                                     const Reach& reach) {
  const int64_t cols = weight.cols();
  std::vector<float> largest(reach.Count(weight.rows(), cols));
  RETURN_IF_ERROR(ForEachRow(weight, [&](int64_t row, const float* values) {
    for (int64_t col = 0; col < cols;) {
      const int64_t end = reach.EndOf(row, col, cols);
      float& of_all = largest[reach.IndexOf(row, col, cols)];
      of_all = std::max(of_all, LargestMagnitude(values + col, end - col));
      col = end;
    }
  }));
  return largest;
}

EncodedRows::EncodedRows(const FloatRows& weight, CodeFormat format)
    : weight_(weight), format_(std::move(format)) {}

absl::Status EncodedRows::Read(int64_t first, int64_t count,
                               CodeBand& out) const {
  const int64_t cols = weight_.cols();
  const bool allowed = format_.is_float() && weight_.allows_non_finite();
  std::vector<float>& values = out.floats;
  values.resize(count * cols);
  RETURN_IF_ERROR(weight_.Read(first, count, values.data()));
  const int64_t row_bytes = cols * format_.element_bytes();
  out.first_row = first;
  out.rows = count;
  out.elements.resize(count * row_bytes);
  out.fields.resize(format_.fields.size());
  for (size_t i = 0; i < format_.fields.size(); ++i) {
    const Reach& reach = format_.fields[i].reach;
    out.fields[i].first = reach.IndexOf(first, 0, cols);
    out.fields[i].values.resize(
        reach.IndexOf(first + count - 1, cols - 1, cols) - out.fields[i].first +
        1);
  }
  for (int64_t i = 0; i < count; ++i) {
    const float* row = values.data() + i * cols;
    if (!allowed) RETURN_IF_ERROR(CheckFinite(weight_, first + i, row));
    RETURN_IF_ERROR(
        EncodeRow(first + i, row, out.elements.data() + i * row_bytes, out));
  }
  return absl::OkStatus();
}

}  // namespace ounce::quant
