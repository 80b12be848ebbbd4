// What causal_lm.h promises to the last bit of every decoder: a row does not
// depend on other slices, on how a prompt is cut into steps, or on the number
// of threads.

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "quant/registry.h"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::GoldenCase;
using ::ounce::testing::GoldenCases;
using ::ounce::testing::LmRunner;
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
  quant::Compute compute = quant::Compute::kFloat32;
  std::function<std::unique_ptr<Checkpoint>()> open;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class DecoderExactnessTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const auto checkpoint = GetParam().open();
    ASSERT_NE(checkpoint, nullptr);
    LoadOptions options;
    options.compute = GetParam().compute;
    ASSERT_OK_AND_ASSIGN(options.plan, ParseMethodPlan(GetParam().method));
    ASSERT_OK_AND_ASSIGN(loaded_, LoadModel(*checkpoint, options));
    lm_ = loaded_.model->causal_lm();
    const int64_t longest = std::min<int64_t>(150, lm_->shape().max_positions);
    for (int64_t length : {longest, int64_t{1}, int64_t{67}, int64_t{16}}) {
      prompts_.push_back(Random(length));
    }
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

TEST_P(DecoderExactnessTest, CutsOfAPromptChangeNoBit) {
  LmRunner runner(*lm_, 1);
  for (const auto& prompt : prompts_) {
    const int64_t length = static_cast<int64_t>(prompt.size());
    const auto whole = Bits(runner.AllLogits(prompt, {length}));
    EXPECT_EQ(Bits(runner.AllLogits(prompt, std::vector<int64_t>(length, 1))),
              whole)
        << length << " tokens one at a time";
    for (int i = 0; i < 3; ++i) {
      const auto cuts = RandomCuts(length, random_);
      EXPECT_EQ(Bits(runner.AllLogits(prompt, cuts)), whole)
          << ::testing::PrintToString(cuts);
    }
  }
}

TEST_P(DecoderExactnessTest, OtherSequencesInTheStepChangeNoBit) {
  LmRunner runner(*lm_, 2);
  const int64_t vocab = lm_->shape().vocab_size;
  std::vector<std::vector<uint32_t>> alone;
  for (const auto& prompt : prompts_) {
    alone.push_back(
        Bits(runner.AllLogits(prompt, {static_cast<int64_t>(prompt.size())})));
  }
  for (int round = 0; round < 3; ++round) {
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

TEST_P(DecoderExactnessTest, ThreadsChangeNoBit) {
  LmRunner one(*lm_, 1), two(*lm_, 2), three(*lm_, 3);
  for (const auto& prompt : prompts_) {
    const std::vector<int64_t> whole = {static_cast<int64_t>(prompt.size())};
    const auto wanted = Bits(one.AllLogits(prompt, whole));
    EXPECT_EQ(Bits(two.AllLogits(prompt, whole)), wanted);
    EXPECT_EQ(Bits(three.AllLogits(prompt, whole)), wanted);
  }
}

TEST_P(DecoderExactnessTest, FewerLogitsAreTheLastOnes) {
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

TEST_P(DecoderExactnessTest, ScratchIsEnough) {
  for (int threads : {1, 2, 3}) {
    LmRunner runner(*lm_, threads);
    LmRunner::Sequence first, second;
    const int64_t length = static_cast<int64_t>(prompts_[0].size());
    const int64_t rows = length + 67;
    runner.Step({{&first, prompts_[0], length}, {&second, prompts_[2], 67}});
    EXPECT_LE(runner.scratch().peak(), lm_->ScratchBytes(rows, rows, threads));
    // Not so much that budgets would be wrong (float weights take a third
    // less than int8 ones, for which room is made).
    EXPECT_GE(runner.scratch().peak() * 3,
              lm_->ScratchBytes(rows, rows, threads));
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
  std::vector<Case> cases;
  const auto add = [&](std::string name, std::string method, TinyShape shape) {
    cases.push_back({.name = "codegen_" + std::move(name),
                     .method = std::move(method),
                     .open = [shape] { return MakeTinyCheckpoint(shape); }});
  };
  add("usual_float32", "float32", usual);
  add("usual_float16", "float16", usual);
  add("usual_bfloat16", "bfloat16", usual);
  add("usual_linear", "linear", usual);
  add("usual_bnb_int8", "bnb-int8:threshold=1", usual);
  add("odd_bnb_int8", "bnb-int8:threshold=0.5", odd);
  add("odd_float32", "float32", odd);
  add("odd_linear", "linear", odd);
  add("odd_linear_3_bits", "linear:bits=3,mode=asymmetric", odd);
  add("twenty_float32", "float32", twenty);
  add("twenty_linear", "linear", twenty);
  add("wide_linear", "linear", wide);
  add("wide_linear_4_bits", "linear:bits=4,granularity=group,group=64", wide);
  for (const GoldenCase& golden : GoldenCases()) {
    const auto open = [folder = golden.folder] {
      auto checkpoint = Checkpoint::Open(folder);
      EXPECT_OK(checkpoint.status());
      return checkpoint.ok() ? *std::move(checkpoint) : nullptr;
    };
    cases.push_back(
        {.name = golden.name + "_float32", .method = "float32", .open = open});
    cases.push_back(
        {.name = golden.name + "_linear", .method = "linear", .open = open});
    cases.push_back({.name = golden.name + "_linear_4_bits",
                     .method = "linear:bits=4,granularity=group,group=64",
                     .open = open});
    cases.push_back({.name = golden.name + "_activations_8",
                     .method = "linear:bits=4,granularity=group,activations=8",
                     .open = open});
    cases.push_back({.name = golden.name + "_in_bfloat16",
                     .method = "bfloat16",
                     .compute = quant::Compute::kBFloat16,
                     .open = open});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(AllCases, DecoderExactnessTest,
                         ::testing::ValuesIn(AllCases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace ounce::model
