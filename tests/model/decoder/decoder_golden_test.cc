// Every decoder's forward pass against transformers: a family's goldens are run
// as soon as it is in architectures.def.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "model/registry.h"
#include "quant/registry.h"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::Golden;
using ::ounce::testing::GoldenCase;
using ::ounce::testing::GoldenCases;
using ::ounce::testing::LmRunner;

class DecoderGoldenTest : public ::testing::TestWithParam<GoldenCase> {
 protected:
  void SetUp() override {
    const std::string& folder = GetParam().folder;
    ASSERT_OK_AND_ASSIGN(checkpoint_, Checkpoint::Open(folder));
    // Goldens were computed in float32 from the checkpoint's values.
    LoadOptions options;
    ASSERT_OK_AND_ASSIGN(options.plan, ParseMethodPlan("float32"));
    ASSERT_OK_AND_ASSIGN(loaded_, LoadModel(*checkpoint_, options));
    lm_ = loaded_.model->causal_lm();
    ASSERT_NE(lm_, nullptr);
    golden_ = ounce::testing::ReadGolden(folder, lm_->shape().vocab_size);
  }

  std::unique_ptr<Checkpoint> checkpoint_;
  LoadedModel loaded_;
  const CausalLm* lm_ = nullptr;
  Golden golden_;
};

TEST_P(DecoderGoldenTest, LogitsAreThoseOfTransformers) {
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

TEST_P(DecoderGoldenTest, GreedyTokensAreThoseOfTransformers) {
  LmRunner runner(*lm_, 2);
  for (size_t p = 0; p < golden_.prompts.size(); ++p) {
    EXPECT_EQ(runner.Greedy(golden_.prompts[p], 64), golden_.greedy[p])
        << "prompt " << p;
  }
}

TEST_P(DecoderGoldenTest, ActivationsIn8BitsStayCloseToThem) {
  const auto distance = [&](const char* plan) {
    LoadOptions options;
    options.plan = *ParseMethodPlan(plan);
    const auto loaded = LoadModel(*checkpoint_, options);
    EXPECT_OK(loaded.status());
    LmRunner runner(*loaded->model->causal_lm(), 1);
    double difference = 0, norm = 0;
    for (size_t p = 0; p < golden_.prompts.size(); ++p) {
      const auto& prompt = golden_.prompts[p];
      const auto logits =
          runner.AllLogits(prompt, {static_cast<int64_t>(prompt.size())});
      for (size_t i = 0; i < logits.size(); ++i) {
        const double wanted = golden_.logits[p][i];
        difference += (logits[i] - wanted) * (logits[i] - wanted);
        norm += wanted * wanted;
      }
    }
    return std::sqrt(difference / norm);
  };
  const double in_16 = distance("linear");
  const double in_8 = distance("linear:activations=8");
  // Both factors of a product have 8 bits then, and so errors of one size.
  EXPECT_NE(in_8, in_16);
  EXPECT_LT(in_8, 2.5 * in_16);
}

TEST_P(DecoderGoldenTest, ABatchOfUnequalPromptsGivesTheSameTokens) {
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

TEST_P(DecoderGoldenTest, ServesThePositionsOfTheConfigToTheLast) {
  int64_t positions = 2048;  // as BLOOM's were trained on, who need no table
  for (const char* key :
       {"seq_length", "n_positions", "max_position_embeddings"}) {
    positions = checkpoint_->config().value(key, positions);
  }
  EXPECT_EQ(lm_->shape().max_positions, positions);
  LmRunner runner(*lm_, 2);
  LmRunner::Sequence sequence;
  std::vector<float> logits;
  while (sequence.position < positions) {
    const auto count =
        std::min<int64_t>(positions - sequence.position, LmRunner::kMaxRows);
    if (sequence.position + count > LmRunner::kBlocks * kKvBlockTokens) break;
    logits = runner.Step({{&sequence, std::vector<int32_t>(count, 7), 1}});
  }
  EXPECT_THAT(logits, ::testing::Each(::testing::ResultOf(
                          [](float x) { return std::isfinite(x); }, true)));
}

INSTANTIATE_TEST_SUITE_P(AllCases, DecoderGoldenTest,
                         ::testing::ValuesIn(GoldenCases()),
                         [](const auto& info) { return info.param.name; });

TEST(Goldens, ExistForEveryArchitecture) {
  for (const Architecture* architecture : AllArchitectures()) {
    const std::string name(architecture->name);
    EXPECT_TRUE(std::filesystem::exists("tests/golden/decoder/" + name) ||
                std::filesystem::exists("tests/golden/" + name))
        << name;
  }
}

}  // namespace
}  // namespace ounce::model
