// What calibration relies on: an observer of a step sees the input of every
// linear layer, by the names that reports and requests use.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/loader/loader.h"
#include "quant/registry.h"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_detector.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAreArray;

// How often each module was seen, and with how many columns.
class Counter final : public LinearObserver {
 public:
  void OnInput(absl::Span<const std::string> modules,
               const quant::ConstMatrix& x) override {
    for (const std::string& module : modules) {
      ++times[module];
      cols[module] = x.cols;
      rows[module] = x.rows;
    }
  }
  std::map<std::string, int> times;
  std::map<std::string, int64_t> cols;
  std::map<std::string, int64_t> rows;
};

std::vector<std::string> ModulesOf(const LoadReport& report,
                                   std::vector<WeightRole> roles) {
  std::vector<std::string> modules;
  for (const TensorReport& tensor : report.tensors) {
    if (tensor.is_vector || tensor.method.empty()) continue;
    for (const WeightRole role : roles) {
      if (tensor.role == role) {
        modules.emplace_back(absl::StripSuffix(tensor.name, ".weight"));
      }
    }
  }
  return modules;
}

TEST(LinearObserverTest, SeesEveryLinearModuleOfADecoderOnceAStep) {
  for (const testing::GoldenCase& c : testing::GoldenCases()) {
    SCOPED_TRACE(c.name);
    ASSERT_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(c.folder));
    LoadOptions options;
    ASSERT_OK_AND_ASSIGN(const ModelPlan plan, PlanModel(*checkpoint, options));
    const std::vector<std::string> linear =
        ModulesOf(plan.report, {WeightRole::kLinear});
    ASSERT_FALSE(linear.empty());
    // Every other one, so that neighbours are parts of different methods.
    std::string kept;
    for (size_t i = 0; i < linear.size(); i += 2) {
      kept += linear[i] + "=keep ";
    }
    options.plan = *ParseMethodPlan(kept + "linear");
    ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                         LoadModel(*checkpoint, options));
    testing::LmRunner runner(*loaded.model->causal_lm(), 2);
    testing::LmRunner::Sequence sequence;
    Counter counter;
    runner.Step({{&sequence, {1, 2, 3}, 2}}, &counter);
    for (const std::string& module : linear) {
      EXPECT_THAT(counter.times, Contains(Pair(module, 1)));
      EXPECT_GE(counter.rows[module], 2) << module;
    }
    // And the head, which reads only the rows whose logits are wanted.
    EXPECT_THAT(counter.times, SizeIs(linear.size() + 1));
    EXPECT_THAT(counter.times, Each(Pair(::testing::_, 1)));
    EXPECT_THAT(counter.rows, Contains(Pair(::testing::_, 2)));
  }
}

TEST(LinearObserverTest, SeesEveryLinearModuleOfADetectorOnceAStep) {
  const auto checkpoint = testing::OpenDetrGolden(testing::kTinyDetectorFolder);
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded, LoadModel(*checkpoint, {}));
  testing::DetectorRunner runner(*loaded.model->detector(), 2);
  Counter counter;
  runner.Run({testing::DetectorRunner::Generated(0, {70, 90}, {70, 90}),
              testing::DetectorRunner::Generated(1, {60, 50}, {60, 50})},
             &counter);
  std::vector<std::string> seen;
  for (const auto& [module, times] : counter.times) {
    EXPECT_EQ(times, 1) << module;
    seen.push_back(module);
  }
  EXPECT_THAT(seen,
              UnorderedElementsAreArray(ModulesOf(
                  loaded.report, {WeightRole::kLinear, WeightRole::kHead})));
}

TEST(LinearObserverTest, ChangesNoBitOfTheResult) {
  const auto loaded =
      testing::LoadWith(*testing::MakeTinyCheckpoint({}), "linear");
  testing::LmRunner runner(*loaded.model->causal_lm(), 2);
  testing::LmRunner::Sequence alone, observed;
  Counter counter;
  EXPECT_EQ(runner.Step({{&observed, {5, 6, 7}, 3}}, &counter),
            runner.Step({{&alone, {5, 6, 7}, 3}}));
}

}  // namespace
}  // namespace ounce::model
