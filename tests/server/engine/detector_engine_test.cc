#include "server/engine/detector_engine.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "image/rgb8.h"
#include "model/detector.h"
#include "model/processors/detr_image_processor.h"
#include "server/engine/step_turns.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/refusal.h"
#include "tests/server/engine/turn_takers.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::ounce::testing::IsOk;
using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// Two queries, one label; every logit but "no object" is `logit`. `work` is
// what it does on the pool.
class FakeDetector final : public model::Detector {
 public:
  using Work = std::function<void(ThreadPool&)>;
  FakeDetector(float logit, size_t scratch_bytes, Work work = nullptr)
      : logit_(logit), scratch_bytes_(scratch_bytes), work_(std::move(work)) {
    shape_.num_queries = 2;
    shape_.labels = {"thing"};
  }

  std::string_view architecture() const override { return "fake"; }
  const model::DetectorShape& shape() const override { return shape_; }
  quant::Compute compute() const override { return quant::Compute::kFloat32; }
  size_t ScratchBytes(absl::Span<const model::PictureSize>,
                      int) const override {
    return scratch_bytes_;
  }
  void Forward(absl::Span<const model::PictureView>, const model::Run& run,
               const quant::Matrix& logits,
               const quant::Matrix& boxes) const override {
    if (work_) work_(run.pool);
    for (int64_t row = 0; row < logits.rows; ++row) {
      logits.row(row)[0] = logit_;
      logits.row(row)[1] = 0;
      std::fill_n(boxes.row(row), 4, 0.5f);
    }
  }

 private:
  const float logit_;
  const size_t scratch_bytes_;
  const Work work_;
  model::DetectorShape shape_;
};

class DetectorEngineTest : public ::testing::Test {
 protected:
  absl::Status Run(float logit, size_t scratch_bytes,
                   std::unique_ptr<MemoryUse> scratch_use = nullptr) {
    return Run(std::make_shared<FakeDetector>(logit, scratch_bytes),
               std::move(scratch_use));
  }
  absl::Status Run(std::shared_ptr<FakeDetector> detector,
                   std::unique_ptr<MemoryUse> scratch_use = nullptr,
                   const Clock& clock = Clock::Real()) {
    ASSIGN_OR_RETURN(model::DetrImageProcessor processor,
                     model::DetrImageProcessor::Parse("test", "{}"));
    const auto engine = CreateDetectorEngine(
        {.model_version = 1, .method = "float32"}, std::move(detector),
        std::make_shared<const model::DetrImageProcessor>(std::move(processor)),
        pool_, turns_, clock, std::move(scratch_use));
    Picture picture;
    ASSIGN_OR_RETURN(picture.rgb, image::Rgb8::Create(8, 8));
    picture.original_height = picture.original_width = 8;
    const DetectItem item = {&picture, 0.5f, 10};
    return engine->Run({&item, 1}, &batch_);
  }

  ThreadPool pool_{1};
  StepTurns turns_;
  DetectBatch batch_;
};

TEST_F(DetectorEngineTest, TellsWhatTheModelFound) {
  ASSERT_OK(Run(5, 4096));
  ASSERT_THAT(batch_.objects, SizeIs(1));
  EXPECT_THAT(batch_.objects[0], SizeIs(2));
}

TEST_F(DetectorEngineTest, RefusesOutputsThatAreNotFinite) {
  for (const float logit : {std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity()}) {
    EXPECT_THAT(Run(logit, 4096),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("the model as float32 computes numbers that "
                                   "are not finite")));
  }
}

TEST_F(DetectorEngineTest, GivesNoModelMoreWorkingMemoryThanThereIs) {
  EXPECT_THAT(
      Run(5, (size_t{8} << 30) + 1),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("8589934592")));
}

TEST_F(DetectorEngineTest, TakesItsWorkingMemoryOfTheServers) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  MemoryBudget budget({.limit_bytes = 10 * kMiB});
  const auto use = [&](int64_t floor) {
    return std::make_unique<MemoryUse>(budget, MemoryShare::kScratch, floor);
  };
  EXPECT_OK(Run(5, 8 * kMiB, use(0)));
  EXPECT_EQ(budget.state().used.total(), 0) << "given back with the engine";
  const absl::Status refused = Run(5, 20 * kMiB, use(0));
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted,
                                HasSubstr("memory is short")));
  EXPECT_TRUE(RetryAfter(refused).has_value());
  // What its version has reserved is its own.
  ASSERT_TRUE(budget.Take(MemoryShare::kPictures, 10 * kMiB));
  EXPECT_FALSE(Run(5, 4 * kMiB, use(0)).ok());
  EXPECT_OK(Run(5, 4 * kMiB, use(5 * kMiB)));
}

TEST_F(DetectorEngineTest, GivesOthersTheirTurnsInTheMidstOfABatch) {
  testing::FakeClock clock;
  const testing::TurnTakers stream(1, turns_);
  std::vector<int> seen;  // by task
  int quick_turns = 0;
  const auto work = [&](ThreadPool& pool) {
    pool.ParallelFor(10, [&](int64_t, int) {
      stream.AwaitAllWait(turns_);
      seen.push_back(stream.had());
      clock.Advance(absl::Milliseconds(20));
    });
    // And what takes no time is not cut into pieces.
    pool.ParallelFor(1, [](int64_t, int) {});
    const int before = stream.had();
    pool.ParallelFor(10, [&](int64_t, int) { stream.AwaitAllWait(turns_); });
    quick_turns = stream.had() - before;
  };
  EXPECT_OK(Run(std::make_shared<FakeDetector>(5, 4096, work), nullptr, clock));
  ASSERT_THAT(seen, SizeIs(10));
  for (size_t i = 1; i < seen.size(); ++i) EXPECT_GT(seen[i], seen[i - 1]);
  EXPECT_EQ(quick_turns, 0);
  // Theirs is not its time.
  EXPECT_EQ(batch_.in_model, absl::Milliseconds(200));
}

// So that a stream waits no longer beside several batches than beside one.
TEST_F(DetectorEngineTest, CutsABatchTheFinerTheMoreWait) {
  constexpr int kTasks = 40;
  for (const int num_others : {1, 2, 4}) {
    testing::FakeClock clock;
    const testing::TurnTakers others(num_others, turns_);
    std::vector<int> seen;  // by task
    const auto work = [&](ThreadPool& pool) {
      pool.ParallelFor(kTasks, [&](int64_t, int) {
        others.AwaitAllWait(turns_);
        seen.push_back(others.had());
        clock.Advance(absl::Milliseconds(5));
      });
    };
    EXPECT_OK(
        Run(std::make_shared<FakeDetector>(5, 4096, work), nullptr, clock));
    ASSERT_THAT(seen, SizeIs(kTasks));
    const int tasks_to_a_slice = 4 / num_others;
    for (int i = 1; i < kTasks; ++i) {
      EXPECT_EQ(seen[i] > seen[i - 1], i % tasks_to_a_slice == 0)
          << "task " << i << " beside " << num_others;
    }
  }
}

TEST_F(DetectorEngineTest, TellsHowLongItWaitedForItsFirstTurn) {
  testing::FakeClock clock;
  std::atomic<bool> busy = false;
  std::thread stream([&] {
    turns_.Begin();
    busy = true;
    while (turns_.OthersWaiting() == 0) std::this_thread::yield();
    clock.Advance(absl::Milliseconds(30));
    turns_.End();
  });
  while (!busy) std::this_thread::yield();
  const auto work = [&](ThreadPool&) { clock.Advance(absl::Milliseconds(5)); };
  EXPECT_OK(Run(std::make_shared<FakeDetector>(5, 4096, work), nullptr, clock));
  stream.join();
  EXPECT_EQ(batch_.waited, absl::Milliseconds(30));
  EXPECT_EQ(batch_.in_model, absl::Milliseconds(5));
}

}  // namespace
}  // namespace ounce::server
