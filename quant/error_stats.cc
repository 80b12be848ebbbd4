#include "quant/error_stats.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/cpu.h"
#include "base/status_macros.h"

namespace ounce::quant {
namespace {

struct Sums {
  double norm = 0;
  double error = 0;
  double max_abs = 0;
  int64_t zeros = 0;
};

typedef float Four __attribute__((vector_size(16)));
typedef double Doubles __attribute__((vector_size(32)));
typedef int64_t Masks __attribute__((vector_size(32)));

__attribute__((always_inline)) inline Sums SumsOf(const float* wanted,
                                                  const float* found,
                                                  int64_t count) {
  // Eight sums that do not wait for each other.
  constexpr int kVectors = 2, kLanes = 4 * kVectors;
  Doubles norms[kVectors] = {}, errors[kVectors] = {}, most[kVectors] = {};
  Masks zeros[kVectors] = {};
  const auto add = [&](const float* w, const float* f)
      __attribute__((always_inline)) {
    for (int v = 0; v < kVectors; ++v) {
      Four w4, f4;
      std::memcpy(&w4, w + 4 * v, sizeof w4);
      std::memcpy(&f4, f + 4 * v, sizeof f4);
      const auto a = __builtin_convertvector(w4, Doubles);
      const auto b = __builtin_convertvector(f4, Doubles);
      const Doubles norm = a * a;
      const Masks counts = norm <= std::numeric_limits<double>::max();
      const auto difference =
          reinterpret_cast<Doubles>(counts & reinterpret_cast<Masks>(a - b));
      norms[v] +=
          reinterpret_cast<Doubles>(counts & reinterpret_cast<Masks>(norm));
      errors[v] += difference * difference;
      const auto size = reinterpret_cast<Doubles>(
          INT64_MAX & reinterpret_cast<Masks>(difference));
      most[v] = size > most[v] ? size : most[v];
      zeros[v] += b == 0;  // -1 for each
    }
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) add(wanted + i, found + i);
  if (i < count) {
    float padded[2][kLanes] = {};  // zeros add nothing
    std::copy(wanted + i, wanted + count, padded[0]);
    std::copy(found + i, found + count, padded[1]);
    add(padded[0], padded[1]);
    zeros[0][0] += kLanes - (count - i);  // those do not count
  }
  Sums sums;
  for (int lane = 0; lane < kLanes; ++lane) {
    sums.norm += norms[lane / 4][lane % 4];
    sums.error += errors[lane / 4][lane % 4];
    sums.max_abs = std::max(sums.max_abs, most[lane / 4][lane % 4]);
    sums.zeros -= zeros[lane / 4][lane % 4];
  }
  return sums;
}

// The same bits: lanes are the same, and nothing is fused. (Functions of one
// file need no namespace per instruction set.)
Sums SumsPortable(const float* wanted, const float* found, int64_t count) {
  return SumsOf(wanted, found, count);
}
__attribute__((target("avx2"))) Sums SumsAvx2(const float* wanted,
                                              const float* found,
                                              int64_t count) {
  return SumsOf(wanted, found, count);
}

}  // namespace

void ErrorMeter::Add(const float* wanted, const float* found, int64_t count) {
  const Sums sums =
      (BestIsa() >= Isa::kAvx2 ? SumsAvx2 : SumsPortable)(wanted, found, count);
  norm_ += sums.norm;
  error_ += sums.error;
  max_abs_ = std::max(max_abs_, sums.max_abs);
  zeros_ += sums.zeros;
  elements_ += count;
}

void ErrorMeter::Add(const CodeFormat& format, const CodeBand& band,
                     int64_t cols, const float* wanted, const float* found) {
  Add(wanted, found, band.rows * cols);
  if (!format.clamps) return;
  clampable_ += band.rows * cols;
  for (int64_t row = band.first_row; row < band.first_row + band.rows; ++row) {
    for (int64_t col = 0; col < cols;) {
      // Rounding alone is off by half a step, and by a last digit.
      const float most =
          0.501f * std::abs(RunAt(format, band, row, col, cols).scale);
      const int64_t end = EndOfRun(format, row, col, cols);
      for (; col < end; ++col, ++wanted, ++found) {
        clamped_ += std::abs(*wanted - *found) > most ? 1 : 0;
      }
    }
  }
}

void ErrorMeter::Add(const ErrorMeter& part) {
  norm_ += part.norm_;
  error_ += part.error_;
  max_abs_ = std::max(max_abs_, part.max_abs_);
  clampable_ += part.clampable_;
  clamped_ += part.clamped_;
  zeros_ += part.zeros_;
  elements_ += part.elements_;
}

ErrorStats ErrorMeter::stats() const {
  ErrorStats stats;
  stats.max_abs = max_abs_;
  stats.relative_l2 = norm_ > 0 ? std::sqrt(error_ / norm_) : 0;
  stats.snr_db = stats.relative_l2 > 0
                     ? -20 * std::log10(stats.relative_l2)
                     : std::numeric_limits<double>::infinity();
  if (clampable_ > 0) {
    stats.clamped =
        static_cast<double>(clamped_) / static_cast<double>(clampable_);
  }
  if (elements_ > 0) {
    stats.zeros = static_cast<double>(zeros_) / static_cast<double>(elements_);
  }
  return stats;
}

absl::StatusOr<ErrorStats> MeasureError(const FloatRows& original,
                                        const CodeRows& codes) {
  OUNCE_CHECK(
      original.rows() == codes.rows() && original.cols() == codes.cols(),
      "shapes are equal");
  constexpr int64_t kRows = 16;
  const int64_t cols = codes.cols();
  std::vector<float> wanted(kRows * cols);
  std::vector<float> found(kRows * cols);
  CodeBand band;
  ErrorMeter meter;
  for (int64_t row = 0; row < codes.rows(); row += kRows) {
    const int64_t n = std::min(kRows, codes.rows() - row);
    RETURN_IF_ERROR(original.Read(row, n, wanted.data()));
    RETURN_IF_ERROR(codes.Read(row, n, band));
    Decode(codes.format(), band, cols, found.data());
    meter.Add(codes.format(), band, cols, wanted.data(), found.data());
  }
  return meter.stats();
}

}  // namespace ounce::quant
