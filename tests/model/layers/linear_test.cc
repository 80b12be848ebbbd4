#include "model/layers/linear.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "quant/pack.h"
#include "quant/registry.h"
#include "tests/quant/held_codes.h"
#include "tests/quant/matrix_rows.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using quant::Activation;
using quant::Combine;
using quant::Compute;
using quant::MatrixRows;
using quant::NormalRows;
using quant::NormalValues;
using quant::Scratch;
using ::testing::ElementsAre;
using ::testing::Pair;

constexpr int64_t kCols = 83;

SharedWeight Pack(const MatrixRows& rows, const std::string& spec) {
  const quant::MethodSpec method = *quant::ParseMethodSpec(spec);
  return std::make_shared<const quant::PackedWeight>(
      *method.method->Quantize(rows, method.params));
}

// Rows [first, first + count) of a matrix.
MatrixRows Cut(const MatrixRows& rows, int64_t first, int64_t count) {
  const auto begin = rows.values().begin() + first * rows.cols();
  return MatrixRows(count, rows.cols(), {begin, begin + count * rows.cols()});
}

LinearPart Part(const MatrixRows& rows, const std::string& spec,
                std::string module = "layer") {
  return {.rows = rows.rows(),
          .weight = Pack(rows, spec),
          .modules = {std::move(module)}};
}

// Bits of y after Apply, which held ones before.
std::vector<uint32_t> Apply(const Linear& linear, const std::vector<float>& x,
                            Activation activation = Activation::kNone,
                            Combine combine = Combine::kReplace,
                            Compute compute = Compute::kFloat32,
                            LinearObserver* observer = nullptr) {
  ThreadPool pool(2);
  Scratch scratch = *Scratch::Create(8 << 20);
  const Run run = {pool, scratch, compute, observer};
  const auto rows = static_cast<int64_t>(x.size()) / linear.cols();
  std::vector<float> y(rows * linear.rows(), 1.0f);
  linear.Apply({x.data(), rows, linear.cols(), linear.cols()}, activation,
               combine, {y.data(), rows, linear.rows(), linear.rows()}, run);
  EXPECT_EQ(scratch.mark(), 0u);
  std::vector<uint32_t> bits(y.size());
  std::memcpy(bits.data(), y.data(), y.size() * sizeof(float));
  return bits;
}

TEST(LinearTest, PartsGiveWhatTheirRowsGiveAsOneMatrix) {
  const MatrixRows rows = NormalRows(52, kCols, 1);
  const std::vector<float> bias = NormalValues(52, 2);
  for (const std::string spec : {"float32", "bfloat16", "linear"}) {
    const Linear whole({Part(rows, spec)}, kCols, bias);
    const Linear parts(
        {Part(Cut(rows, 0, 17), spec), Part(Cut(rows, 17, 5), spec),
         Part(Cut(rows, 22, 30), spec)},
        kCols, bias);
    ASSERT_EQ(parts.rows(), 52);
    for (const int64_t count : {1, 7, 33}) {
      const std::vector<float> x = NormalValues(count * kCols, 3);
      for (const Compute compute : {Compute::kFloat32, Compute::kBFloat16}) {
        for (const auto& [activation, combine] :
             {std::pair(Activation::kNone, Combine::kReplace),
              std::pair(Activation::kSilu, Combine::kAdd),
              std::pair(Activation::kGelu, Combine::kMultiply)}) {
          EXPECT_EQ(Apply(parts, x, activation, combine, compute),
                    Apply(whole, x, activation, combine, compute))
              << spec << ", " << count << " rows, "
              << quant::ComputeName(compute);
        }
      }
    }
  }
}

TEST(LinearTest, PartsOfDifferentMethodsReadOneInput) {
  const MatrixRows query = NormalRows(20, kCols, 1);
  const MatrixRows key = NormalRows(9, kCols, 2);
  const MatrixRows value = NormalRows(16, kCols, 3);
  const std::vector<float> x = NormalValues(5 * kCols, 4);
  const Linear together(
      {Part(query, "linear"), Part(key, "bfloat16"), Part(value, "float16")},
      kCols, {});
  std::vector<uint32_t> wanted(5 * 45);
  int64_t first = 0;
  for (const LinearPart& part : together.parts()) {
    const std::vector<uint32_t> alone = Apply(Linear({part}, kCols, {}), x);
    for (int64_t row = 0; row < 5; ++row) {
      std::copy_n(alone.begin() + row * part.rows, part.rows,
                  wanted.begin() + row * 45 + first);
    }
    first += part.rows;
  }
  EXPECT_EQ(Apply(together, x), wanted);
}

TEST(LinearTest, PartsOfDifferentThresholdsFindTheirOwnOutliers) {
  const MatrixRows rows = NormalRows(20, kCols, 1);
  const std::vector<float> x = NormalValues(5 * kCols, 4, 3);
  std::vector<LinearPart> parts;
  std::vector<uint32_t> wanted(5 * 80);
  for (const std::string spec :
       {"bnb-int8", "bnb-int8:threshold=0", "bnb-int8:threshold=2", "linear"}) {
    parts.push_back(Part(rows, spec));
    const std::vector<uint32_t> alone =
        Apply(Linear({parts.back()}, kCols, {}), x);
    for (int64_t row = 0; row < 5; ++row) {
      std::copy_n(alone.begin() + row * 20, 20,
                  wanted.begin() + row * 80 + 20 * (parts.size() - 1));
    }
  }
  EXPECT_EQ(Apply(Linear(parts, kCols, {}), x), wanted);
}

TEST(LinearTest, APartMayReadItsInputsInAnotherOrder) {
  const MatrixRows rows = NormalRows(30, kCols, 1);
  std::vector<int32_t> order(kCols);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(5));
  std::vector<float> shuffled(rows.values().size());
  for (int64_t row = 0; row < rows.rows(); ++row) {
    for (int64_t col = 0; col < kCols; ++col) {
      shuffled[row * kCols + col] = rows.values()[row * kCols + order[col]];
    }
  }
  LinearPart ordered = Part(MatrixRows(30, kCols, shuffled), "linear");
  ordered.input_order = order;
  const LinearPart usual = Part(rows, "linear");
  const std::vector<float> x = NormalValues(6 * kCols, 2);
  // Sums of integers know no order, so not a bit differs.
  EXPECT_EQ(Apply(Linear({usual, ordered}, kCols, {}), x),
            Apply(Linear({usual, usual}, kCols, {}), x));
}

// GPTQ's act-order: columns are sorted so that those of a group lie side by
// side, for query, key and value each in its own way.
TEST(LinearTest, PartsOfGroupedCodesHaveOrdersOfTheirOwn) {
  constexpr int64_t kWidth = 96, kRows = 10;
  const quant::CodeFormat format = {
      .kind = quant::CodeFormat::Kind::kUnsigned,
      .bits = 4,
      .element = "int4",
      .fields = {{.name = "scale", .reach = quant::Reach::Columns(32)}},
      .rule = {.scale = {.field = 0}, .zero = {.constant = 8}}};
  std::vector<LinearPart> parts;
  std::vector<float>
      values;  // of all parts, columns as the checkpoint has them
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    std::vector<uint8_t> elements(kRows * kWidth);
    for (size_t i = 0; i < elements.size(); ++i) elements[i] = i * seed % 16;
    std::vector<int32_t> order(kWidth);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    const quant::HeldCodes codes(format, kRows, kWidth, elements,
                                 {NormalValues(kRows * 3, seed, 0.05f)}, order);
    parts.push_back({.rows = kRows,
                     .weight = std::make_shared<const quant::PackedWeight>(
                         *quant::Pack(codes)),
                     .modules = {"layer"},
                     .input_order = order});
    const std::vector<float> part = quant::ValuesOf(codes);
    values.insert(values.end(), part.begin(), part.end());
  }
  const std::vector<float> x = NormalValues(2 * kWidth, 9);
  const std::vector<double> wanted = quant::SlowProduct(values, kWidth, x);
  const std::vector<uint32_t> found = Apply(Linear(parts, kWidth, {}), x);
  for (size_t i = 0; i < wanted.size(); ++i) {
    float y;
    std::memcpy(&y, &found[i], sizeof(y));
    // x is rounded to integers: to within half a step of max|x| / 32639, times
    // the sum of 96 weights of 0.2 or so.
    EXPECT_NEAR(wanted[i], y, 1e-3);
  }
}

TEST(LinearTest, AnObserverSeesWhatEachPartReads) {
  struct Observer final : LinearObserver {
    void OnInput(absl::Span<const std::string> modules,
                 const quant::ConstMatrix& x) override {
      seen.emplace_back(modules[0], x.row(1)[2]);
    }
    std::vector<std::pair<std::string, float>> seen;
  } observer;
  LinearPart ordered = Part(NormalRows(4, kCols, 2), "linear", "v");
  ordered.input_order.resize(kCols);
  std::iota(ordered.input_order.rbegin(), ordered.input_order.rend(), 0);
  const Linear linear({Part(NormalRows(4, kCols, 1), "float32", "q"), ordered},
                      kCols, {});
  const std::vector<float> x = NormalValues(2 * kCols, 3);
  Apply(linear, x, Activation::kNone, Combine::kReplace, Compute::kFloat32,
        &observer);
  // In the checkpoint's order, whatever the part's own.
  EXPECT_THAT(observer.seen,
              ElementsAre(Pair("q", x[kCols + 2]), Pair("v", x[kCols + 2])));
}

TEST(LinearTest, OutlinesOfWeightsTellACountingPassWhatTheyTake) {
  const auto count = [](const Linear& linear, Compute compute) {
    Scratch counting = Scratch::Counting();
    ThreadPool pool(ThreadPool::Idle{2});
    linear.Apply({nullptr, 40, kCols, kCols}, Activation::kNone,
                 Combine::kReplace, {nullptr, 40, 70, 70},
                 {pool, counting, compute});
    return counting.peak();
  };
  const std::vector<float> x = NormalValues(40 * kCols, 1);
  const auto outline = [](const LinearPart& part) {
    LinearPart result = part;
    quant::PackedWeight weight = quant::PackedWeight::Outline(
        part.weight->layout(), part.rows, kCols, part.weight->runs());
    weight.set_input_rounding(part.weight->input_rounding());
    result.weight =
        std::make_shared<const quant::PackedWeight>(std::move(weight));
    return result;
  };
  for (const Compute compute : {Compute::kFloat32, Compute::kBFloat16}) {
    const auto count_alone = [&](const std::string& spec) {
      return count(Linear({Part(NormalRows(70, kCols, 2), spec)}, kCols, {}),
                   compute);
    };
    if (compute == Compute::kFloat32) {
      EXPECT_LT(count_alone("float32"), count_alone("linear"));
    }
    EXPECT_LT(count_alone("linear"), count_alone("linear:bits=4"));
    for (const auto& [spec, other] :
         {std::pair<std::string, std::string>{"float32", "float16"},
          {"linear", "linear"},
          {"linear:bits=4", "linear:mode=asymmetric"},
          {"float16", "linear"},
          {"bnb-int8", "bnb-int8"},
          {"bnb-int8", "bnb-int8:threshold=0"},
          {"linear:bits=3,granularity=group", "linear"}}) {
      const LinearPart first = Part(NormalRows(40, kCols, 2), spec);
      const LinearPart second = Part(NormalRows(30, kCols, 3), other);
      const Linear linear({first, second}, kCols, {});
      const size_t planned =
          count(Linear({outline(first), outline(second)}, kCols, {}), compute);
      EXPECT_EQ(count(linear, compute), planned) << spec;
      ThreadPool pool(2);
      Scratch scratch = *Scratch::Create(8 << 20);
      std::vector<float> y(40 * 70);
      linear.Apply({x.data(), 40, kCols, kCols}, Activation::kNone,
                   Combine::kReplace, {y.data(), 40, 70, 70},
                   {pool, scratch, compute});
      EXPECT_LE(scratch.peak(), planned) << spec;
    }
  }
}

}  // namespace
}  // namespace ounce::model
