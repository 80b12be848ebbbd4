#include "server/engine/model_engine.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/causal_lm.h"
#include "tests/server/engine/turn_takers.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::ounce::testing::IsOk;
using ::testing::SizeIs;

// `work` is what a step does on the pool; nothing is computed.
class FakeCausalLm final : public model::CausalLm {
 public:
  using Work = std::function<void(ThreadPool&)>;
  explicit FakeCausalLm(Work work) : work_(std::move(work)) {
    shape_.vocab_size = 4;
    shape_.max_positions = 256;
    shape_.kv = {.layers = 1, .heads = 1, .head_dim = 16};
  }

  std::string_view architecture() const override { return "fake"; }
  quant::Compute compute() const override { return quant::Compute::kFloat32; }
  const model::CausalLmShape& shape() const override { return shape_; }
  size_t ScratchBytes(int64_t, int64_t, int) const override { return 4096; }
  void Forward(absl::Span<const model::SequenceSlice>, model::KvCache&,
               const model::Run& run, const quant::Matrix&) const override {
    work_(run.pool);
  }
  int64_t width() const override { return 16; }
  std::vector<std::string> PieceModules(int64_t) const override { return {}; }
  void RunPiece(int64_t, const model::SequenceSlice&, model::KvCache&,
                const model::Run&, const quant::Matrix&,
                const quant::Matrix&) const override {}

 private:
  const Work work_;
  model::CausalLmShape shape_;
};

class ModelEngineTest : public ::testing::Test {
 protected:
  // Beside one that wants turns all the time: how many it had had when each of
  // ten tasks of 20 ms began, of a step of so many tokens.
  std::vector<int> TurnsOfOthers(int64_t num_tokens) {
    const testing::TurnTakers stream(1, turns_);
    std::vector<int> seen;
    const auto work = [&](ThreadPool& pool) {
      pool.ParallelFor(10, [&](int64_t, int) {
        stream.AwaitAllWait(turns_);
        seen.push_back(stream.had());
        clock_.Advance(absl::Milliseconds(20));
      });
    };
    EXPECT_OK(Step(work, num_tokens));
    return seen;
  }

  absl::Status Step(FakeCausalLm::Work work, int64_t num_tokens) {
    const auto model = std::make_shared<FakeCausalLm>(std::move(work));
    ASSIGN_OR_RETURN(model::KvCache cache,
                     model::KvCache::Create(model->shape().kv, 16));
    ASSIGN_OR_RETURN(
        const std::unique_ptr<Engine> engine,
        CreateModelEngine(
            {.method = "float32", .max_step_tokens = 256, .max_step_logits = 1},
            model, std::make_shared<model::KvCache>(std::move(cache)), pool_,
            turns_, clock_));
    const std::vector<int32_t> tokens(num_tokens, 0);
    const StepSlice slice = {tokens, 0, {}, false};
    std::vector<absl::Span<const float>> logits;
    return engine->Step({&slice, 1}, &logits);
  }

  testing::FakeClock clock_;
  ThreadPool pool_{1};
  StepTurns turns_;
};

TEST_F(ModelEngineTest, GivesOthersTheirTurnsInTheMidstOfAPrompt) {
  const std::vector<int> seen = TurnsOfOthers(64);
  ASSERT_THAT(seen, SizeIs(10));
  for (size_t i = 1; i < seen.size(); ++i) EXPECT_GT(seen[i], seen[i - 1]);
}

TEST_F(ModelEngineTest, AStepOfFewTokensIsOneTurn) {
  const std::vector<int> seen = TurnsOfOthers(8);
  ASSERT_THAT(seen, SizeIs(10));
  EXPECT_EQ(seen.front(), seen.back());
}

}  // namespace
}  // namespace ounce::server
