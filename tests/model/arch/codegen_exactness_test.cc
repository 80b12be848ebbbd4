// What causal_lm.h promises to the last bit: a row does not depend on other
// slices, on how a prompt is cut into steps, or on the number of threads.

#include <cstring>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::LmRunner;
using ::ounce::testing::LoadWith;
using ::ounce::testing::MakeTinyCheckpoint;
using ::ounce::testing::TinyShape;

// Bits, so that NaN is equal to itself and -0 is not 0.
std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits(values.size());
  if (!bits.empty()) {
    std::memcpy(bits.data(), values.data(), values.size() * 4);
  }
  return bits;
}

std::vector<int64_t> RandomCuts(int64_t total, std::mt19937& random) {
  std::vector<int64_t> cuts;
  while (total > 0) {
    const int64_t cut = std::min<int64_t>(
        total, std::uniform_int_distribution<int64_t>(1, 50)(random));
    cuts.push_back(cut);
    total -= cut;
  }
  return cuts;
}

struct Case {
  std::string name;
  std::string method;
  TinyShape shape;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class CodeGenExactnessTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    loaded_ =
        LoadWith(*MakeTinyCheckpoint(GetParam().shape), GetParam().method);
    lm_ = loaded_.model->causal_lm();
    for (int64_t length : {150, 1, 67, 16}) prompts_.push_back(Random(length));
  }

  std::vector<int32_t> Random(int64_t length) {
    std::uniform_int_distribution<int32_t> token(
        0, static_cast<int32_t>(lm_->shape().vocab_size) - 1);
    std::vector<int32_t> tokens(length);
    for (int32_t& id : tokens) id = token(random_);
    return tokens;
  }

  LoadedModel loaded_;
  const CausalLm* lm_ = nullptr;
  std::mt19937 random_{11};
  std::vector<std::vector<int32_t>> prompts_;
};

TEST_P(CodeGenExactnessTest, CutsOfAPromptChangeNoBit) {
  LmRunner runner(*lm_, 1);
  for (const auto& prompt : prompts_) {
    const int64_t length = static_cast<int64_t>(prompt.size());
    const auto whole = Bits(runner.AllLogits(prompt, {length}));
    EXPECT_EQ(Bits(runner.AllLogits(prompt, std::vector<int64_t>(length, 1))),
              whole)
        << length << " tokens one at a time";
    for (int i = 0; i < 5; ++i) {
      const auto cuts = RandomCuts(length, random_);
      EXPECT_EQ(Bits(runner.AllLogits(prompt, cuts)), whole)
          << ::testing::PrintToString(cuts);
    }
  }
}

TEST_P(CodeGenExactnessTest, OtherSequencesInTheStepChangeNoBit) {
  LmRunner runner(*lm_, 2);
  const int64_t vocab = lm_->shape().vocab_size;
  std::vector<std::vector<uint32_t>> alone;
  for (const auto& prompt : prompts_) {
    alone.push_back(
        Bits(runner.AllLogits(prompt, {static_cast<int64_t>(prompt.size())})));
  }
  for (int round = 0; round < 5; ++round) {
    std::vector<LmRunner::Sequence> sequences(prompts_.size());
    std::vector<std::vector<uint32_t>> together(prompts_.size());
    for (;;) {
      std::vector<LmRunner::Part> parts;
      std::vector<size_t> who;
      for (size_t i = 0; i < prompts_.size(); ++i) {
        const int64_t at = sequences[i].position;
        const int64_t left = static_cast<int64_t>(prompts_[i].size()) - at;
        // Sometimes a sequence sits a step out.
        if (left == 0 || random_() % 4 == 0) continue;
        const int64_t count = std::min<int64_t>(left, 1 + random_() % 60);
        const auto from = prompts_[i].begin() + at;
        parts.push_back({&sequences[i], {from, from + count}, count});
        who.push_back(i);
      }
      const auto logits = Bits(runner.Step(parts));
      auto next = logits.begin();
      for (size_t p = 0; p < parts.size(); ++p) {
        const auto end = next + parts[p].num_logits * vocab;
        together[who[p]].insert(together[who[p]].end(), next, end);
        next = end;
      }
      bool done = true;
      for (size_t i = 0; i < prompts_.size(); ++i) {
        done &= together[i].size() == alone[i].size();
      }
      if (done) break;
    }
    for (const auto& sequence : sequences) runner.Free(sequence);
    EXPECT_EQ(together, alone) << "round " << round;
  }
}

TEST_P(CodeGenExactnessTest, ThreadsChangeNoBit) {
  LmRunner one(*lm_, 1), two(*lm_, 2), three(*lm_, 3);
  for (const auto& prompt : prompts_) {
    const std::vector<int64_t> whole = {static_cast<int64_t>(prompt.size())};
    const auto wanted = Bits(one.AllLogits(prompt, whole));
    EXPECT_EQ(Bits(two.AllLogits(prompt, whole)), wanted);
    EXPECT_EQ(Bits(three.AllLogits(prompt, whole)), wanted);
  }
}

TEST_P(CodeGenExactnessTest, FewerLogitsAreTheLastOnes) {
  LmRunner runner(*lm_, 1);
  const int64_t vocab = lm_->shape().vocab_size;
  const auto& prompt = prompts_[0];
  const auto all =
      Bits(runner.AllLogits(prompt, {static_cast<int64_t>(prompt.size())}));
  LmRunner::Sequence first, second;
  const auto logits =
      Bits(runner.Step({{&first, prompt, 3}, {&second, prompts_[2], 0}}));
  EXPECT_EQ(logits, std::vector<uint32_t>(all.end() - 3 * vocab, all.end()));
}

TEST_P(CodeGenExactnessTest, ScratchIsEnough) {
  for (int threads : {1, 2, 3}) {
    LmRunner runner(*lm_, threads);
    LmRunner::Sequence first, second;
    runner.Step({{&first, prompts_[0], 150}, {&second, prompts_[2], 67}});
    EXPECT_LE(runner.scratch().peak(), lm_->ScratchBytes(217, 217, threads));
    // Not so much that budgets would be wrong (float weights take a third
    // less than int8 ones, for which room is made).
    EXPECT_GE(runner.scratch().peak() * 3,
              lm_->ScratchBytes(217, 217, threads));
    EXPECT_EQ(runner.scratch().mark(), 0u);
  }
}

std::vector<Case> AllCases() {
  const TinyShape usual = {.positions = 192, .dtype = quant::DType::kF16};
  // Heads of 9 (odd), 20 and 80 elements; inner sizes that fill no tile.
  const TinyShape odd = {.vocab = 37,
                         .positions = 160,
                         .width = 36,
                         .layers = 1,
                         .heads = 4,
                         .rotary_dim = 2,
                         .inner = 21};
  const TinyShape twenty = {.positions = 160,
                            .width = 80,
                            .layers = 3,
                            .rotary_dim = 20,
                            .inner = 72,
                            .tied = true};
  const TinyShape wide = {.positions = 150,
                          .width = 320,
                          .layers = 1,
                          .rotary_dim = 32,
                          .inner = 200};
  return {{"float32", "float32", usual},     {"float16", "float16", usual},
          {"bfloat16", "bfloat16", usual},   {"linear", "linear", usual},
          {"float32_odd", "float32", odd},   {"linear_odd", "linear", odd},
          {"float32_20", "float32", twenty}, {"linear_20", "linear", twenty},
          {"linear_wide", "linear", wide}};
}
INSTANTIATE_TEST_SUITE_P(AllCases, CodeGenExactnessTest,
                         ::testing::ValuesIn(AllCases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace ounce::model
