#include "server/scheduler/detect_scheduler.h"

#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/refusal.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_detect_engine.h"
#include "tests/testing/no_threads.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::ounce::testing::FakeClock;
using ::ounce::testing::FakeDetectEngine;
using ::ounce::testing::NoThreads;
using ::ounce::testing::RecordingDetectSink;
using ::ounce::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using absl::StatusCode;

class RecordingObserver final : public DetectObserver {
 public:
  void OnBatch(int64_t pictures, absl::Duration) override {
    MutexLock lock(&mu_);
    batches_.push_back(pictures);
  }
  void OnDone(const absl::Status& status, const DetectResult&) override {
    MutexLock lock(&mu_);
    outcomes_.push_back(status.code());
  }
  void OnStats(const DetectStats& stats) override {
    MutexLock lock(&mu_);
    stats_ = stats;
  }
  std::vector<int64_t> batches() const {
    MutexLock lock(&mu_);
    return batches_;
  }
  std::vector<StatusCode> outcomes() const {
    MutexLock lock(&mu_);
    return outcomes_;
  }
  DetectStats stats() const {
    MutexLock lock(&mu_);
    return stats_;
  }

 private:
  mutable Mutex mu_;
  std::vector<int64_t> batches_ ABSL_GUARDED_BY(mu_);
  std::vector<StatusCode> outcomes_ ABSL_GUARDED_BY(mu_);
  DetectStats stats_ ABSL_GUARDED_BY(mu_);
};

// The clock stands still, so a window ends when the test says so: the scheduler
// looks at it every max_wait of real time.
class DetectSchedulerTest : public ::testing::Test {
 protected:
  ~DetectSchedulerTest() override {
    if (engine_ != nullptr) engine_->Free();
  }

  void Create(DetectScheduler::Options options) {
    scheduler_ = *DetectScheduler::Create(options, engine_, clock_, observer_);
  }

  DetectParams Params(int64_t width, int64_t height = 1) {
    DetectParams params;
    params.picture.rgb = *image::Rgb8::Create(height, width);
    params.picture.original_height = 50;
    params.picture.original_width = 60;
    params.threshold = 0.5f;
    params.arrival = clock_.Now();
    return params;
  }
  RecordingDetectSink& Submit(DetectParams params) {
    RecordingDetectSink& sink = sinks_.emplace_back();
    const auto id = scheduler_->Submit(std::move(params), &sink);
    EXPECT_OK(id);
    last_id_ = id.value_or(0);
    return sink;
  }
  RecordingDetectSink& Submit(int64_t width) { return Submit(Params(width)); }

  // A batch of one that holds the engine until the test lets it go.
  RecordingDetectSink& Occupy() {
    engine_->Hold();
    RecordingDetectSink& sink = Submit(1000);
    clock_.Advance(absl::Milliseconds(2));
    EXPECT_THAT(engine_->AwaitBatch(), ElementsAre(1000));
    return sink;
  }

  static bool WaitUntil(const std::function<bool()>& condition) {
    const absl::Time end = absl::Now() + ounce::testing::kDetectPatience;
    while (!condition()) {
      if (absl::Now() > end) return false;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return true;
  }

  FakeClock clock_;
  RecordingObserver observer_;
  std::shared_ptr<FakeDetectEngine> engine_ =
      std::make_shared<FakeDetectEngine>();
  std::deque<RecordingDetectSink> sinks_;
  DetectScheduler::RequestId last_id_ = 0;
  std::unique_ptr<DetectScheduler> scheduler_;
};

TEST_F(DetectSchedulerTest, AnswersWithWhatTheEngineFoundInThatPicture) {
  Create({});
  std::vector<RecordingDetectSink*> sinks;
  for (int64_t width = 1; width <= 20; ++width) {
    DetectParams params = Params(width);
    params.decode = absl::Milliseconds(5);
    params.arrival -= absl::Milliseconds(100);
    sinks.push_back(&Submit(std::move(params)));
  }
  WaitUntil([&] {
    clock_.Advance(absl::Milliseconds(1));
    return sinks.back()->times_done() > 0;
  });
  for (int64_t width = 1; width <= 20; ++width) {
    RecordingDetectSink& sink = *sinks[width - 1];
    ASSERT_TRUE(sink.AwaitDone());
    ASSERT_OK(sink.status());
    const DetectResult result = sink.result();
    ASSERT_EQ(result.objects.size(), 1u);
    EXPECT_EQ(result.objects[0].label_id, width);
    EXPECT_EQ(result.objects[0].x_max, 60);
    EXPECT_EQ(result.image_height, 50);
    EXPECT_EQ(result.image_width, 60);
    EXPECT_EQ(result.model_version, 1);
    EXPECT_EQ(result.method, "fake");
    EXPECT_EQ(result.decode, absl::Milliseconds(5));
    EXPECT_EQ(result.in_model, absl::Milliseconds(3));
    EXPECT_EQ(result.queued + result.decode + result.in_model, result.total);
    EXPECT_GE(result.queued, absl::Milliseconds(92));
    EXPECT_GE(result.began, result.read);
    EXPECT_GE(result.began, absl::Milliseconds(100));
    EXPECT_LE(result.began, result.total);
  }
  EXPECT_EQ(scheduler_->stats().detected, 20);
}

TEST_F(DetectSchedulerTest, ABatchTakesWhatWaitsInOrderUpToItsSize) {
  Create({.max_batch_pictures = 3});
  Occupy();
  for (int64_t width = 1; width <= 5; ++width) Submit(width);
  engine_->Finish();
  EXPECT_THAT(engine_->AwaitBatch(), ElementsAre(1, 2, 3));
  engine_->Finish();
  // These two have waited long enough in the clock's sense only now.
  clock_.Advance(absl::Milliseconds(2));
  EXPECT_THAT(engine_->AwaitBatch(), ElementsAre(4, 5));
}

TEST_F(DetectSchedulerTest, PicturesOfOneBatchStayWithinTheBudgetOfPixels) {
  Create({.max_batch_pixels = 100});
  Occupy();
  Submit(Params(40));
  Submit(Params(60));
  Submit(Params(1));
  Submit(Params(101));
  Submit(Params(2));
  engine_->Finish();
  EXPECT_THAT(engine_->AwaitBatch(), ElementsAre(40, 60));
  engine_->Finish();
  EXPECT_THAT(engine_->AwaitBatch(), ElementsAre(1));
  engine_->Finish();
  EXPECT_THAT(engine_->AwaitBatch(), ElementsAre(101));
}

TEST_F(DetectSchedulerTest, AFullBatchStartsWithoutWaiting) {
  Create({.max_batch_pictures = 2, .max_wait = absl::Hours(1)});
  Submit(1);
  RecordingDetectSink& second = Submit(2);
  EXPECT_TRUE(second.AwaitDone());
  EXPECT_THAT(engine_->batches(), ElementsAre(ElementsAre(1, 2)));
}

TEST_F(DetectSchedulerTest, AnUnfilledBatchStartsWhenItsOldestHasWaited) {
  Create({.max_wait = absl::Milliseconds(10)});
  Submit(1);
  clock_.Advance(absl::Milliseconds(9));
  RecordingDetectSink& second = Submit(2);
  absl::SleepFor(absl::Milliseconds(30));
  EXPECT_TRUE(engine_->batches().empty());
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_TRUE(second.AwaitDone());
  EXPECT_THAT(engine_->batches(), ElementsAre(ElementsAre(1, 2)));
  EXPECT_THAT(observer_.batches(), ElementsAre(2));
}

TEST_F(DetectSchedulerTest, RefusesForNowWhenTheQueueIsFull) {
  Create({.max_queued = 2});
  Occupy();
  Submit(1);
  Submit(2);
  RecordingDetectSink sink;
  const absl::Status refused = scheduler_->Submit(Params(3), &sink).status();
  EXPECT_THAT(refused, StatusIs(StatusCode::kResourceExhausted,
                                HasSubstr("2 pictures wait")));
  EXPECT_TRUE(RetryAfter(refused).has_value());
  EXPECT_EQ(sink.times_done(), 0);
  EXPECT_EQ(scheduler_->stats(), (DetectStats{.queued = 2, .running = 1}));
  EXPECT_EQ(observer_.stats(), (DetectStats{.queued = 2, .running = 1}));
}

TEST_F(DetectSchedulerTest, WhatCannotBeAnsweredInTimeIsRefusedAtOnce) {
  Create({.max_batch_pictures = 1});
  const auto attempt = [&](const std::string& peer, int64_t width,
                           absl::Duration deadline) {
    DetectParams params = Params(width);
    params.peer = peer;
    params.deadline = clock_.Now() + deadline;
    return scheduler_->Submit(std::move(params), &sinks_.emplace_back())
        .status();
  };
  // Nobody is refused before speeds are known.
  Occupy();
  for (int i = 0; i < 9; ++i) {
    EXPECT_OK(attempt("hog", 1000, absl::Minutes(1)));
  }
  for (int i = 0; i < 5; ++i) {  // a second for each of 1000 pixels
    clock_.Advance(absl::Seconds(1));
    engine_->Finish();
    engine_->AwaitBatch();
  }
  // One has just begun, four wait.
  const absl::Status refused = attempt("hog", 1000, absl::Milliseconds(2900));
  EXPECT_EQ(ReasonOf(refused), Reason::kDeadlineTooSoon) << refused;
  EXPECT_THAT(refused.message(),
              HasSubstr("the answer would come in about 6s"));
  EXPECT_OK(attempt("hog", 1000, absl::Milliseconds(3100)));
  // Another peer's comes after the batch that runs.
  EXPECT_OK(attempt("other", 1000, absl::Milliseconds(1100)));
  EXPECT_EQ(ReasonOf(attempt("a third", 1000, absl::Milliseconds(900))),
            Reason::kDeadlineTooSoon);
  EXPECT_OK(attempt("a fourth", 1, absl::Milliseconds(600)));
  engine_->Free();
}

TEST_F(DetectSchedulerTest, PeersTakeTurnsInABatch) {
  Create({.max_batch_pictures = 3});
  Occupy();
  for (int64_t width = 1; width <= 4; ++width) {
    DetectParams params = Params(width);
    params.peer = "hog";
    Submit(std::move(params));
  }
  for (int64_t width = 5; width <= 6; ++width) {
    DetectParams params = Params(width);
    params.peer = "other";
    Submit(std::move(params));
  }
  engine_->Finish();
  EXPECT_THAT(engine_->AwaitBatch(), ElementsAre(1, 5, 2));
  engine_->Finish();
  EXPECT_THAT(engine_->AwaitBatch(), ElementsAre(6, 3, 4));
}

TEST_F(DetectSchedulerTest, AFullQueueMakesRoomAtTheCostOfWhoHasMost) {
  PictureMemory memory(100);
  Create({.max_queued = 2});
  Occupy();
  std::vector<RecordingDetectSink*> hogs;
  for (int64_t width = 1; width <= 2; ++width) {
    DetectParams params = Params(width);
    params.peer = "hog";
    params.picture.memory = *memory.Reserve(50);
    hogs.push_back(&Submit(std::move(params)));
  }
  DetectParams params = Params(3);
  params.peer = "other";
  RecordingDetectSink& other = Submit(std::move(params));
  EXPECT_EQ(hogs[1]->times_done(), 1);
  EXPECT_THAT(hogs[1]->status(), StatusIs(StatusCode::kResourceExhausted,
                                          HasSubstr("queue is full")));
  EXPECT_TRUE(RetryAfter(hogs[1]->status()).has_value());
  EXPECT_EQ(memory.used_bytes(), 50);
  EXPECT_EQ(scheduler_->stats().queued, 2);
  engine_->Free();
  clock_.Advance(absl::Milliseconds(2));
  ASSERT_TRUE(other.AwaitDone());
  ASSERT_TRUE(hogs[0]->AwaitDone());
  EXPECT_OK(other.status());
  EXPECT_OK(hogs[0]->status());
}

TEST_F(DetectSchedulerTest, CancelEndsAQueuedRequestAtOnceAndGivesItsMemory) {
  PictureMemory memory(100);
  Create({});
  Occupy();
  DetectParams params = Params(1);
  params.picture.memory = *memory.Reserve(60);
  RecordingDetectSink& sink = Submit(std::move(params));
  int64_t used_at_end = -1;
  sink.set_on_done([&] { used_at_end = memory.used_bytes(); });
  scheduler_->Cancel(last_id_, absl::CancelledError("the client is gone"));
  EXPECT_EQ(sink.times_done(), 1);
  EXPECT_THAT(sink.status(), StatusIs(StatusCode::kCancelled));
  EXPECT_EQ(used_at_end, 0);
  EXPECT_EQ(scheduler_->stats().queued, 0);
  EXPECT_THAT(observer_.outcomes(), ElementsAre(StatusCode::kCancelled));
  scheduler_->Cancel(last_id_, absl::CancelledError("again"));
  scheduler_->Cancel(12345, absl::CancelledError("unknown"));
}

TEST_F(DetectSchedulerTest, ARunningBatchEndsAndTheCancelledAnswerIsDropped) {
  Create({.max_batch_pictures = 2, .max_wait = absl::Hours(1)});
  engine_->Hold();
  RecordingDetectSink& first = Submit(1);
  const auto first_id = last_id_;
  RecordingDetectSink& second = Submit(2);
  engine_->AwaitBatch();
  scheduler_->Cancel(first_id, absl::CancelledError("the client is gone"));
  EXPECT_EQ(first.times_done(), 0);
  engine_->Finish();
  ASSERT_TRUE(first.AwaitDone());
  ASSERT_TRUE(second.AwaitDone());
  EXPECT_THAT(first.status(), StatusIs(StatusCode::kCancelled));
  EXPECT_TRUE(first.result().objects.empty());
  EXPECT_OK(second.status());
  EXPECT_EQ(second.result().objects[0].label_id, 2);
}

TEST_F(DetectSchedulerTest, ADeadlineEndsARequestThatWaits) {
  Create({.max_wait = absl::Milliseconds(20)});
  DetectParams params = Params(1);
  params.deadline = clock_.Now() + absl::Milliseconds(10);
  RecordingDetectSink& sink = Submit(std::move(params));
  clock_.Advance(absl::Milliseconds(10));
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_THAT(sink.status(), StatusIs(StatusCode::kDeadlineExceeded));
  EXPECT_TRUE(engine_->batches().empty());
}

TEST_F(DetectSchedulerTest, ADeadlineThatPassesInTheModelIsToldAfterwards) {
  Create({.max_batch_pictures = 1});
  engine_->Hold();
  DetectParams params = Params(1);
  params.deadline = clock_.Now() + absl::Seconds(1);
  RecordingDetectSink& sink = Submit(std::move(params));
  engine_->AwaitBatch();
  clock_.Advance(absl::Seconds(1));
  engine_->Finish();
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_THAT(sink.status(), StatusIs(StatusCode::kDeadlineExceeded));
}

TEST_F(DetectSchedulerTest, AnErrorOfTheEngineEndsItsBatchAndNoOther) {
  Create({.max_batch_pictures = 1});
  engine_->Hold();
  RecordingDetectSink& bad = Submit(1);
  RecordingDetectSink& good = Submit(2);
  engine_->AwaitBatch();
  engine_->Finish(absl::ResourceExhaustedError("no memory"));
  EXPECT_THAT(engine_->AwaitBatch(), ElementsAre(2));
  engine_->Finish();
  ASSERT_TRUE(bad.AwaitDone());
  ASSERT_TRUE(good.AwaitDone());
  EXPECT_THAT(bad.status(), StatusIs(StatusCode::kResourceExhausted));
  EXPECT_OK(good.status());
}

TEST_F(DetectSchedulerTest, ASwapTakesEffectBetweenBatchesAndFreesTheOld) {
  Create({.max_batch_pictures = 1});
  bool freed = false;
  Mutex mu;
  engine_->set_on_destroyed([&] {
    MutexLock lock(&mu);
    freed = true;
  });
  engine_->Hold();
  RecordingDetectSink& before = Submit(1);
  RecordingDetectSink& after = Submit(2);
  engine_->AwaitBatch();
  scheduler_->SetEngine(std::make_shared<FakeDetectEngine>(
      DetectEngineInfo{.model_version = 2, .method = "smaller"}));
  engine_->Finish();
  engine_ = nullptr;
  ASSERT_TRUE(before.AwaitDone());
  ASSERT_TRUE(after.AwaitDone());
  EXPECT_EQ(before.result().model_version, 1);
  EXPECT_EQ(after.result().model_version, 2);
  EXPECT_EQ(after.result().method, "smaller");
  EXPECT_TRUE(WaitUntil([&] {
    MutexLock lock(&mu);
    return freed;
  }));
}

TEST_F(DetectSchedulerTest, ASwapWithoutRequestsFreesTheOldAtOnce) {
  Create({});
  bool freed = false;
  engine_->set_on_destroyed([&] { freed = true; });
  engine_ = nullptr;
  scheduler_->SetEngine(std::make_shared<FakeDetectEngine>());
  EXPECT_TRUE(freed);
}

TEST_F(DetectSchedulerTest, GivesMemoryBackOnceWhenNothingComes) {
  Create({.max_batch_pictures = 1, .max_idle = absl::Milliseconds(10)});
  absl::SleepFor(absl::Milliseconds(20));
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(engine_->num_releases(), 0);
  RecordingDetectSink& sink = Submit(1);
  ASSERT_TRUE(sink.AwaitDone());
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(engine_->num_releases(), 0);
  clock_.Advance(absl::Milliseconds(10));
  EXPECT_TRUE(WaitUntil([&] { return engine_->num_releases() == 1; }));
  clock_.Advance(absl::Seconds(1));
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(engine_->num_releases(), 1);
}

TEST_F(DetectSchedulerTest, DrainLetsAcceptedRequestsEndAndRefusesNewOnes) {
  Create({.max_wait = absl::Hours(1)});
  RecordingDetectSink& sink = Submit(1);
  scheduler_->Drain(absl::InfiniteFuture());
  EXPECT_EQ(sink.times_done(), 1);
  EXPECT_OK(sink.status());
  RecordingDetectSink late;
  EXPECT_THAT(scheduler_->Submit(Params(2), &late),
              StatusIs(StatusCode::kUnavailable));
  bool freed = false;
  engine_->set_on_destroyed([&] { freed = true; });
  engine_ = nullptr;
  EXPECT_TRUE(freed);
}

TEST_F(DetectSchedulerTest, DrainEndsWhatStillWaitsAtItsDeadline) {
  Create({.max_queued = 1, .max_batch_pictures = 1});
  RecordingDetectSink& running = Occupy();
  RecordingDetectSink& queued = Submit(1);
  bool all_finished = true;
  std::thread drain([&] { all_finished = scheduler_->Drain(clock_.Now()); });
  // Until then the queue is full.
  EXPECT_TRUE(WaitUntil([&] {
    RecordingDetectSink late;
    return absl::IsUnavailable(scheduler_->Submit(Params(2), &late).status());
  }));
  engine_->Finish();
  drain.join();
  EXPECT_EQ(running.times_done(), 1);
  EXPECT_OK(running.status());
  EXPECT_EQ(queued.times_done(), 1);
  EXPECT_THAT(queued.status(), StatusIs(StatusCode::kUnavailable));
  EXPECT_FALSE(all_finished);
}

TEST_F(DetectSchedulerTest, IsNotThereWithoutAThread) {
  const NoThreads none;
  EXPECT_THAT(DetectScheduler::Create({}, engine_, clock_, observer_),
              StatusIs(StatusCode::kResourceExhausted, HasSubstr("no thread")));
}

TEST_F(DetectSchedulerTest, TheDestructorEndsWhatWaits) {
  Create({.max_wait = absl::Hours(1)});
  RecordingDetectSink& sink = Submit(1);
  scheduler_ = nullptr;
  EXPECT_EQ(sink.times_done(), 1);
}

TEST_F(DetectSchedulerTest, ManyThreadsSubmitAndCancelAndEachHearsOnce) {
  Create({.max_queued = 10'000,
          .max_batch_pictures = 4,
          .max_wait = absl::ZeroDuration()});
  constexpr int kThreads = 4;
  constexpr int kEach = 200;
  std::deque<RecordingDetectSink> sinks[kThreads];
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        RecordingDetectSink& sink = sinks[t].emplace_back();
        const auto id = scheduler_->Submit(Params(i + 1), &sink);
        if (i % 3 == 0) scheduler_->Cancel(*id, absl::CancelledError("gone"));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  scheduler_->Drain(absl::InfiniteFuture());
  for (auto& of_thread : sinks) {
    for (int i = 0; i < kEach; ++i) {
      ASSERT_EQ(of_thread[i].times_done(), 1);
      if (of_thread[i].status().ok()) {
        EXPECT_EQ(of_thread[i].result().objects[0].label_id, i + 1);
      } else {
        EXPECT_EQ(i % 3, 0);
      }
    }
  }
}

}  // namespace
}  // namespace ounce::server
