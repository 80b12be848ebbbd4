// The forward pass against transformers.

#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::Golden;
using ::ounce::testing::LmRunner;
using ::ounce::testing::LoadWith;

class CodeGenGoldenTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(checkpoint_, Checkpoint::Open(GetParam()));
    // Goldens were computed in float32 from the checkpoint's values.
    loaded_ = LoadWith(*checkpoint_, "float32");
    lm_ = loaded_.model->causal_lm();
    golden_ = ounce::testing::ReadGolden(GetParam(), lm_->shape().vocab_size);
  }

  std::unique_ptr<Checkpoint> checkpoint_;
  LoadedModel loaded_;
  const CausalLm* lm_ = nullptr;
  Golden golden_;
};

TEST_P(CodeGenGoldenTest, LogitsAreThoseOfTransformers) {
  LmRunner runner(*lm_, 1);
  for (size_t p = 0; p < golden_.prompts.size(); ++p) {
    const auto& prompt = golden_.prompts[p];
    const auto logits =
        runner.AllLogits(prompt, {static_cast<int64_t>(prompt.size())});
    ASSERT_EQ(logits.size(), golden_.logits[p].size());
    // 1e-4 is what users are promised.
    ASSERT_THAT(logits, ::testing::Pointwise(::testing::FloatNear(1e-4f),
                                             golden_.logits[p]))
        << "prompt " << p;
  }
}

TEST_P(CodeGenGoldenTest, GreedyTokensAreThoseOfTransformers) {
  LmRunner runner(*lm_, 2);
  for (size_t p = 0; p < golden_.prompts.size(); ++p) {
    EXPECT_EQ(runner.Greedy(golden_.prompts[p], 64), golden_.greedy[p])
        << "prompt " << p;
  }
}

TEST_P(CodeGenGoldenTest, ABatchOfUnequalPromptsGivesTheSameTokens) {
  LmRunner runner(*lm_, 2);
  const size_t count = golden_.prompts.size();
  std::vector<LmRunner::Sequence> sequences(count);
  std::vector<std::vector<int32_t>> next = golden_.prompts;
  std::vector<std::vector<int32_t>> tokens(count);
  for (int step = 0; step < 64; ++step) {
    std::vector<LmRunner::Part> parts;
    for (size_t i = 0; i < count; ++i)
      parts.push_back({&sequences[i], next[i], 1});
    const auto logits = runner.Step(parts);
    for (size_t i = 0; i < count; ++i) {
      tokens[i].push_back(
          runner.Best(logits.data() + i * lm_->shape().vocab_size));
      next[i] = {tokens[i].back()};
    }
  }
  EXPECT_EQ(tokens, golden_.greedy);
}

INSTANTIATE_TEST_SUITE_P(AllCases, CodeGenGoldenTest,
                         ::testing::ValuesIn(ounce::testing::GoldenFolders()),
                         [](const auto& info) {
                           return info.param.substr(info.param.rfind('/') + 1);
                         });

}  // namespace
}  // namespace ounce::model
