#include "tests/quant/vector_math_test.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "gtest/gtest.h"

namespace ounce::quant {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class VectorMathTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > BestIsa()) {
      GTEST_SKIP() << "this CPU has no " << IsaName(GetParam());
    }
    switch (GetParam()) {
      case Isa::kPortable:
        functions_ = VectorFunctionsPortable();
        break;
      case Isa::kAvx2:
        functions_ = VectorFunctionsAvx2();
        break;
      default:
        functions_ = VectorFunctionsAvx512();
    }
  }

  VectorFunctions functions_;
};

// Every 1,000th float between the bounds.
std::vector<float> Samples(float low, float high) {
  std::vector<float> samples;
  for (float magnitude : {low, high}) {
    const float sign = magnitude < 0 ? -1.0f : 1.0f;
    const auto end = std::bit_cast<uint32_t>(std::abs(magnitude));
    for (uint32_t bits = 0; bits <= end; bits += 1'000) {
      samples.push_back(sign * std::bit_cast<float>(bits));
    }
  }
  return samples;
}

TEST_P(VectorMathTest, ExpIsWithinItsBoundForNormalResults) {
  const std::vector<float> x = Samples(-87.3f, 88.7f);
  std::vector<float> y(x.size());
  functions_.exp(x.data(), x.size(), y.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const double wanted = std::exp(double{x[i]});
    ASSERT_NEAR(wanted, y[i], 1.5e-7 * wanted) << "x " << x[i];
  }
}

TEST_P(VectorMathTest, ExpGoesToZeroAndInfinityAtTheEnds) {
  const std::vector<float> x = {-kInfinity, -1e30f, -104.0f,   -100.0f,
                                88.73f,     1e30f,  kInfinity, kNan};
  std::vector<float> y(x.size());
  functions_.exp(x.data(), x.size(), y.data());
  EXPECT_EQ(0, y[0]);
  EXPECT_EQ(0, y[1]);
  EXPECT_EQ(0, y[2]);
  EXPECT_NEAR(std::exp(-100.0), y[3], 1.5e-45);  // subnormal
  EXPECT_EQ(kInfinity, y[4]);
  EXPECT_EQ(kInfinity, y[5]);
  EXPECT_EQ(kInfinity, y[6]);
  EXPECT_TRUE(std::isnan(y[7]));
}

// An activation in float64, and the bound that all state.
void ExpectWithinBound(double (*wanted)(double),
                       void (*function)(const float*, int64_t, float*)) {
  const std::vector<float> x = Samples(-40.0f, 1e6f);
  std::vector<float> y(x.size());
  function(x.data(), x.size(), y.data());
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_NEAR(wanted(x[i]), y[i], 2e-7 * std::abs(double{x[i]}) + 1e-45)
        << "x " << x[i];
  }
  const float special[] = {kNan, kInfinity, 3e38f, -3e38f};
  float result[4];
  function(special, 4, result);
  EXPECT_TRUE(std::isnan(result[0]));
  EXPECT_EQ(kInfinity, result[1]);
  EXPECT_EQ(3e38f, result[2]);
  EXPECT_EQ(0, result[3]);
}

TEST_P(VectorMathTest, GeluIsWithinItsBound) {
  ExpectWithinBound(
      [](double x) { return 0.5 * x * std::erfc(-x * M_SQRT1_2); },
      functions_.gelu);
}

TEST_P(VectorMathTest, GeluTanhIsWithinItsBound) {
  ExpectWithinBound(
      [](double x) {
        return 0.5 * x *
               (1 +
                std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
      },
      functions_.gelu_tanh);
}

TEST_P(VectorMathTest, SiluIsWithinItsBound) {
  ExpectWithinBound([](double x) { return x / (1 + std::exp(-x)); },
                    functions_.silu);
}

TEST_P(VectorMathTest, RoundTakesTiesToEven) {
  const std::vector<float> x = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 32767.4f};
  std::vector<float> y(x.size());
  functions_.round(x.data(), x.size(), y.data());
  EXPECT_EQ((std::vector<float>{0, 2, 2, 0, -2, 32767}), y);
}

TEST_P(VectorMathTest, PartsDoNotTouchMemoryPastThem) {
  for (int count = 1; count <= functions_.lanes; ++count) {
    std::vector<float> x(count, 1.0f);  // AddressSanitizer watches the ends
    std::vector<float> y(count + 1, 7.0f);
    functions_.exp(x.data(), count, y.data());
    EXPECT_NEAR(std::exp(1.0), y[count - 1], 1e-6);
    EXPECT_EQ(7.0f, y[count]);
  }
}

TEST_P(VectorMathTest, ReductionsTakeAllLanes) {
  std::vector<float> x(functions_.lanes);
  for (int i = 0; i < functions_.lanes; ++i) x[i] = static_cast<float>(i);
  std::swap(x[1], x.back());
  EXPECT_EQ(functions_.lanes * (functions_.lanes - 1) / 2,
            functions_.reduce_add(x.data()));
  EXPECT_EQ(functions_.lanes - 1, functions_.reduce_max(x.data()));
}

INSTANTIATE_TEST_SUITE_P(Isas, VectorMathTest,
                         testing::Values(Isa::kPortable, Isa::kAvx2,
                                         Isa::kAvx512),
                         [](const auto& info) {
                           return std::string(IsaName(info.param));
                         });

}  // namespace
}  // namespace ounce::quant
