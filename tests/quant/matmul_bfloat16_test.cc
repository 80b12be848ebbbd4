// Products of rows in bfloat16.
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/matmul.h"
#include "quant/registry.h"
#include "tests/quant/every_isa.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class RowProductTest : public testing::TestWithParam<const QuantMethod*> {
 protected:
  static std::vector<float> Run(Isa isa, const std::vector<float>& x,
                                int64_t rows, const PackedWeight& w,
                                const Epilogue& epilogue, Compute compute,
                                std::vector<float> y, int num_threads = 3) {
    ThreadPool pool(num_threads);
    const ConstMatrix matrix = {x.data(), rows, w.cols(), w.cols()};
    const InputForms forms = FormsFor(w, compute);
    auto scratch = Scratch::Create(Count(matrix, forms, w, num_threads));
    EXPECT_TRUE(scratch.ok());
    // What lay in the scratch before does not count.
    std::memset(scratch->Take<std::byte>(scratch->capacity()), 0xFF,
                scratch->capacity());
    scratch->ReturnTo(0);
    const int64_t stride = w.rows() + kGap;
    const MatmulInput input =
        MatmulInput::PrepareOn(isa, matrix, forms, pool, *scratch);
    MatmulOn(isa, input, w, epilogue, {y.data(), rows, w.rows(), stride}, pool,
             *scratch);
    return y;
  }
  // What a product takes of scratch.
  static size_t Count(const ConstMatrix& x, const InputForms& forms,
                      const PackedWeight& w, int num_threads) {
    ThreadPool idle(ThreadPool::Idle{num_threads});
    Scratch counting = Scratch::Counting();
    const MatmulInput input = MatmulInput::Prepare(x, forms, idle, counting);
    CountMatmul(input, w.rows(), idle, counting);
    return counting.peak();
  }
  static constexpr int64_t kGap = 5;
};

struct Product {
  int64_t rows, outputs, cols;
};
constexpr Product kProducts[] = {{1, 1, 1},     {2, 18, 33},   {17, 64, 64},
                                 {100, 4, 256}, {33, 92, 100}, {13, 256, 512}};

TEST_P(RowProductTest, EqualsTheObviousLoops) {
  for (const Product& p : kProducts) {
    const PackedWeight w =
        Pack(NormalRows(p.outputs, p.cols, 1), GetParam()->name());
    const std::vector<float> x = NormalValues(p.rows * p.cols, 2);
    const std::vector<float> bias = NormalValues(p.outputs, 3);
    const int64_t stride = p.outputs + kGap;
    const std::vector<float> before = NormalValues(p.rows * stride, 4);
    std::vector<float> weights(p.outputs * p.cols);
    w.Dequantize(0, p.outputs, weights.data());
    // Integer weights go the way of Matmul: x rounded to 16-bit integers.
    const bool floats = w.layout().form == TileForm::kFloat;
    for (const bool extras : {false, true}) {
      const Epilogue epilogue = {
          .bias = extras ? bias.data() : nullptr,
          .activation = extras ? Activation::kRelu : Activation::kNone,
          .combine = extras ? Combine::kAdd : Combine::kReplace};
      for (const Isa isa : Isas()) {
        const std::vector<float> y =
            Run(isa, x, p.rows, w, epilogue, Compute::kBFloat16, before);
        for (int64_t i = 0; i < p.rows; ++i) {
          for (int64_t o = 0; o < p.outputs; ++o) {
            double sum = 0, magnitudes = 0, sum_weights = 0, max_x = 0;
            for (int64_t k = 0; k < p.cols; ++k) {
              float a = x[i * p.cols + k], b = weights[o * p.cols + k];
              max_x = std::max(max_x, std::abs(double{a}));
              sum_weights += std::abs(double{b});
              if (floats) {
                a = RoundTo(DType::kBF16, a);
                b = RoundTo(DType::kBF16, b);
              }
              sum += double{a} * b;
              magnitudes += std::abs(double{a} * b);
            }
            double tolerance = 2 * (p.cols + 4) * 0x1p-24 * magnitudes;
            if (!floats) tolerance += sum_weights * max_x / 65534 * 1.0001;
            const float was = before[i * stride + o];
            if (extras) {
              sum = std::max(sum + bias[o], 0.0) + was;
              tolerance += 0x1p-22 * (std::abs(sum) + std::abs(was) + 1);
            }
            ASSERT_NEAR(sum, y[i * stride + o], tolerance + 1e-30)
                << IsaName(isa) << " " << p.rows << " " << p.outputs << " "
                << p.cols << " at " << i << ", " << o;
          }
          for (int64_t o = p.outputs; o < stride; ++o) {
            ASSERT_EQ(before[i * stride + o], y[i * stride + o]);
          }
        }
      }
    }
  }
}

TEST_P(RowProductTest, ARowDoesNotDependOnTheOthersNorOnThreads) {
  for (const Product& p : kProducts) {
    const PackedWeight w =
        Pack(NormalRows(p.outputs, p.cols, 5), GetParam()->name());
    std::vector<float> x = NormalValues(p.rows * p.cols, 6);
    // Not even on one that holds NaN.
    if (p.rows > 1) x[p.cols] = kNan;
    const int64_t stride = p.outputs + kGap;
    for (const Compute compute : {Compute::kFloat32, Compute::kBFloat16}) {
      for (const Isa isa : Isas()) {
        const std::vector<float> zeros(p.rows * stride);
        const std::vector<float> together =
            Run(isa, x, p.rows, w, {}, compute, zeros, 3);
        for (int64_t i = 0; i < p.rows; i += 7) {
          const std::vector<float> row(x.begin() + i * p.cols,
                                       x.begin() + (i + 1) * p.cols);
          ExpectSameBits(
              std::vector<float>(together.begin() + i * stride,
                                 together.begin() + (i + 1) * stride),
              Run(isa, row, 1, w, {}, compute, std::vector<float>(stride), 1),
              std::string(IsaName(isa)));
        }
      }
    }
  }
}

TEST_P(RowProductTest, AnInputOfAllFormsServesEveryWeight) {
  constexpr int64_t kRows = 19, kOutputs = 37, kCols = 70;
  const PackedWeight w =
      Pack(NormalRows(kOutputs, kCols, 7), GetParam()->name());
  const std::vector<float> x = NormalValues(kRows * kCols, 8);
  const int64_t stride = kOutputs + kGap;
  const ConstMatrix matrix = {x.data(), kRows, kCols, kCols};
  const InputForms all =
      InputForms{.integers = true} | InputForms{.bfloat16 = true};
  for (const Isa isa : Isas()) {
    std::vector<float> y(kRows * stride);
    ThreadPool pool(2);
    auto scratch = Scratch::Create(Count(matrix, all, w, 2));
    ASSERT_TRUE(scratch.ok());
    const MatmulInput input =
        MatmulInput::PrepareOn(isa, matrix, all, pool, *scratch);
    MatmulOn(isa, input, w, {}, {y.data(), kRows, kOutputs, stride}, pool,
             *scratch);
    ExpectSameBits(Run(isa, x, kRows, w, {}, Compute::kBFloat16,
                       std::vector<float>(kRows * stride)),
                   y, std::string(IsaName(isa)));
  }
}

INSTANTIATE_TEST_SUITE_P(AllMethods, RowProductTest,
                         testing::ValuesIn(AllMethods().begin(),
                                           AllMethods().end()),
                         [](const auto& info) {
                           return std::string(info.param->name());
                         });

}  // namespace
}  // namespace ounce::quant
