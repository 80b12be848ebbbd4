// What tests of products share: a multiplier, and the slow, obvious reference.
#ifndef OUNCE_TESTS_QUANT_PRODUCTS_H_
#define OUNCE_TESTS_QUANT_PRODUCTS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/thread_pool.h"
#include "gtest/gtest.h"
#include "quant/matmul.h"
#include "tests/quant/counted_scratch.h"

namespace ounce::quant {

// By default of three threads: more than some matrices have panels, and tasks
// end unevenly.
class Multiplier {
 public:
  explicit Multiplier(int num_threads = 3) : pool_(num_threads) {}

  // Combines with `y` (none: NaN), whose rows may be longer than outputs are
  // many. Has no byte of scratch more than a counting pass says.
  std::vector<float> Run(Isa isa, const std::vector<float>& x, int64_t rows,
                         const PackedWeight& w, const Epilogue& epilogue = {},
                         std::vector<float> y = {},
                         Compute compute = Compute::kFloat32) {
    if (y.empty()) {
      y.resize(rows * w.rows(), std::numeric_limits<float>::quiet_NaN());
    }
    const int64_t stride = static_cast<int64_t>(y.size()) / rows;
    const ConstMatrix matrix = {x.data(), rows, w.cols(), w.cols()};
    const InputForms forms = FormsFor(w, compute);
    const auto multiply = [&](ThreadPool& pool, Scratch& scratch) {
      const MatmulInput input =
          MatmulInput::PrepareOn(isa, matrix, forms, pool, scratch);
      const size_t mark = scratch.mark();
      MatmulOn(isa, input, w, epilogue, {y.data(), rows, w.rows(), stride},
               pool, scratch);
      EXPECT_EQ(mark, scratch.mark());
    };
    const auto count = [&](ThreadPool& pool, Scratch& scratch) {
      CountMatmul(MatmulInput::Prepare(matrix, forms, pool, scratch), w.rows(),
                  pool, scratch);
    };
    const int num_threads = pool_.num_threads();
    const size_t bytes = CountedBytes(num_threads, multiply);
    Scratch scratch = ScratchOfNans(bytes);
    multiply(pool_, scratch);
    EXPECT_EQ(bytes, scratch.peak());
    EXPECT_LE(bytes, CountedBytes(num_threads, count));
    return y;
  }

 private:
  ThreadPool pool_;
};

inline std::vector<float> Dequantized(const PackedWeight& w) {
  std::vector<float> weights(w.rows() * w.cols());
  w.Dequantize(0, w.rows(), weights.data());
  return weights;
}

// One output by dequantized weights and sums in float64; and how far from it
// the kernels may be by what they state.
struct Wanted {
  double y;
  double tolerance;
};
inline Wanted Reference(const float* x, const float* weights, int64_t cols,
                        const PackedWeight& w,
                        Compute compute = Compute::kFloat32) {
  const TileForm form = w.layout().form;
  const float threshold = w.input_rounding().threshold;
  const bool round = form == TileForm::kFloat && compute == Compute::kBFloat16;
  double sum = 0, sum_magnitudes = 0, sum_weights = 0, sum_x = 0;
  double max_x = 0, max_weight = 0;
  int64_t outliers = 0;
  for (int64_t k = 0; k < cols; ++k) {
    const double a = round ? RoundTo(DType::kBF16, x[k]) : x[k];
    const double b = round ? RoundTo(DType::kBF16, weights[k]) : weights[k];
    sum += a * b;
    sum_magnitudes += std::abs(a * b);
    if (threshold > 0 && std::abs(a) >= threshold) {
      ++outliers;
      continue;
    }
    sum_weights += std::abs(b);
    sum_x += std::abs(a);
    max_x = std::max(max_x, std::abs(a));
    max_weight = std::max(max_weight, std::abs(b));
  }
  constexpr double kEpsilon = 0x1p-24;
  if (form == TileForm::kRuns) {
    // Half a step of max / 32639, or of max / 127. The chain rounds at most
    // twice in 16 columns of sums and minima, a weight being the sum of two
    // numbers up to twice the largest.
    const double most = w.input_rounding().bits == 8 ? 127 : 32639;
    return {sum, sum_weights * max_x / (2 * most) * (1 + 1e-4) +
                     (cols / 8.0 + 6) * kEpsilon * 4 * max_weight * sum_x +
                     1e-30};
  }
  if (form == TileForm::kInt8 && w.input_rounding().bits == 8) {
    // Half a step of max / 127; a rounding for each outlier.
    return {sum,
            sum_weights * max_x / 254 * (1 + 1e-4) +
                static_cast<double>(outliers + 8) * kEpsilon * sum_magnitudes +
                1e-30};
  }
  if (form == TileForm::kInt8) {
    // Each x is off by half a step of max / 32767 (1e-4 more for the factor's
    // own rounding); then a handful of float32 roundings.
    return {sum, sum_weights * max_x / 65534 * (1 + 1e-4) +
                     8 * kEpsilon * sum_magnitudes + 1e-30};
  }
  // One rounding per step of the chain (two without FMA).
  return {sum, 2 * (cols + 2) * kEpsilon * sum_magnitudes + 1e-30};
}

}  // namespace ounce::quant

#endif  // OUNCE_TESTS_QUANT_PRODUCTS_H_
