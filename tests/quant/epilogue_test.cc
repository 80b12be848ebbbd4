#include "quant/epilogue.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/registry.h"
#include "tests/quant/error_bounds.h"
#include "tests/quant/every_isa.h"
#include "tests/quant/matrix_rows.h"
#include "tests/quant/products.h"

namespace ounce::quant {
namespace {

struct Product {
  int64_t rows, outputs, cols;
};
constexpr Product kProducts[] = {
    {1, 1, 1}, {2, 18, 33}, {17, 37, 64}, {5, 92, 130}, {49, 21, 70}};
constexpr int64_t kGap = 5;

double Activated(Activation activation, double x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2)));
    case Activation::kGeluTanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
  }
  return x;
}

// What becomes of a product whose place holds `old`.
Wanted Ended(Wanted product, const Epilogue& epilogue, double bias, float old) {
  constexpr double kEpsilon = 0x1p-24;
  const double sum = product.y + bias;
  const double value = Activated(epilogue.activation, sum);
  // No activation is steeper than 1.13; each is right to 2e-7 |sum|.
  const double off =
      1.13 * (product.tolerance + kEpsilon * std::abs(sum)) +
      (epilogue.activation <= Activation::kRelu ? 0 : 2e-7) * std::abs(sum);
  switch (epilogue.combine) {
    case Combine::kReplace:
      return {value, off};
    case Combine::kAdd:
      return {old + value, off + 2 * kEpsilon * std::abs(old + value)};
    case Combine::kMultiply:
      return {old * value,
              std::abs(old) * off + 2 * kEpsilon * std::abs(old * value)};
  }
  return {};
}

class EpilogueTest : public testing::TestWithParam<const QuantMethod*> {};

TEST_P(EpilogueTest, EveryActivationCombinesInEveryWayInBothComputes) {
  Multiplier multiplier;
  for (const Product& p : kProducts) {
    const PackedWeight w =
        Pack(NormalRows(p.outputs, p.cols, 1, DType::kF32, 0.3f),
             GetParam()->name());
    const std::vector<float> weights = Dequantized(w);
    const std::vector<float> x = NormalValues(p.rows * p.cols, 2);
    const std::vector<float> bias = NormalValues(p.outputs, 3);
    const int64_t stride = p.outputs + kGap;
    const std::vector<float> before = NormalValues(p.rows * stride, 4);
    for (const Compute compute : {Compute::kFloat32, Compute::kBFloat16}) {
      std::vector<Wanted> products;
      for (int64_t i = 0; i < p.rows; ++i) {
        for (int64_t o = 0; o < p.outputs; ++o) {
          products.push_back(Reference(&x[i * p.cols], &weights[o * p.cols],
                                       p.cols, w, compute));
        }
      }
      for (const Activation activation :
           {Activation::kNone, Activation::kRelu, Activation::kGelu,
            Activation::kGeluTanh, Activation::kSilu}) {
        for (const Combine combine :
             {Combine::kReplace, Combine::kAdd, Combine::kMultiply}) {
          for (const float* biases :
               {bias.data(), static_cast<const float*>(nullptr)}) {
            const Epilogue epilogue = {biases, activation, combine};
            for (const Isa isa : Isas()) {
              const std::vector<float> y =
                  multiplier.Run(isa, x, p.rows, w, epilogue, before, compute);
              for (int64_t i = 0; i < p.rows; ++i) {
                for (int64_t o = 0; o < p.outputs; ++o) {
                  const Wanted wanted =
                      Ended(products[i * p.outputs + o], epilogue,
                            biases == nullptr ? 0 : biases[o],
                            before[i * stride + o]);
                  ASSERT_NEAR(wanted.y, y[i * stride + o], wanted.tolerance)
                      << IsaName(isa) << " " << ComputeName(compute) << " "
                      << static_cast<int>(activation) << " "
                      << static_cast<int>(combine) << ", " << p.rows << " "
                      << p.outputs << " " << p.cols << " at " << i << ", " << o;
                }
                for (int64_t o = p.outputs; o < stride; ++o) {
                  ASSERT_EQ(before[i * stride + o], y[i * stride + o]);
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST_P(EpilogueTest, AGatedLayerIsTwoProductsInOnePlace) {
  constexpr int64_t kRows = 7, kInner = 40, kCols = 66;
  const PackedWeight gate =
      Pack(NormalRows(kInner, kCols, 5), GetParam()->name());
  const PackedWeight up =
      Pack(NormalRows(kInner, kCols, 6), GetParam()->name());
  const std::vector<float> x = NormalValues(kRows * kCols, 7);
  Multiplier multiplier;
  for (const Compute compute : {Compute::kFloat32, Compute::kBFloat16}) {
    for (const Isa isa : Isas()) {
      const Epilogue silu = {.activation = Activation::kSilu};
      const std::vector<float> gates =
          multiplier.Run(isa, x, kRows, gate, silu, {}, compute);
      const std::vector<float> ups =
          multiplier.Run(isa, x, kRows, up, {}, {}, compute);
      const std::vector<float> y = multiplier.Run(
          isa, x, kRows, up, {.combine = Combine::kMultiply}, gates, compute);
      std::vector<float> wanted;
      for (size_t i = 0; i < y.size(); ++i) wanted.push_back(gates[i] * ups[i]);
      ExpectSameBits(wanted, y, std::string(IsaName(isa)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllMethods, EpilogueTest,
                         testing::ValuesIn(AllMethods().begin(),
                                           AllMethods().end()),
                         [](const auto& info) {
                           return TestName(info.param->name());
                         });

}  // namespace
}  // namespace ounce::quant
