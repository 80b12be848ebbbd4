#include "server/scheduler/generate_scheduler.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/refusal.h"
#include "server/scheduler/sampler.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_engine.h"
#include "tests/testing/no_threads.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::ounce::testing::FakeClock;
using ::ounce::testing::FakeContinuation;
using ::ounce::testing::FakeEngine;
using ::ounce::testing::FakeKv;
using ::ounce::testing::FakeLogits;
using ::ounce::testing::FakeTokenizer;
using ::ounce::testing::IsOk;
using ::ounce::testing::NoThreads;
using ::ounce::testing::RecordingSink;
using ::ounce::testing::SeenSlice;
using ::ounce::testing::SeenStep;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

using absl::StatusCode;

class CountingObserver final : public SchedulerObserver {
 public:
  void OnFirstToken(absl::Duration) override {
    MutexLock lock(&mu_);
    ++first_tokens_;
  }
  void OnTokens(int64_t prompt_tokens, int64_t new_tokens) override {
    MutexLock lock(&mu_);
    prompt_tokens_ += prompt_tokens;
    new_tokens_ += new_tokens;
  }
  void OnPrefixCache(int64_t prompt_tokens, int64_t found_tokens,
                     int64_t evicted_blocks) override {
    MutexLock lock(&mu_);
    started_tokens_ += prompt_tokens;
    found_tokens_ += found_tokens;
    evicted_ += evicted_blocks;
  }
  void OnPreempted(int64_t sequences) override {
    MutexLock lock(&mu_);
    preempted_ += sequences;
  }
  void OnDone(const absl::Status& status, FinishReason,
              const GenerateResult&) override {
    MutexLock lock(&mu_);
    done_.push_back(status.code());
  }
  void OnStats(const SchedulerStats& stats) override {
    MutexLock lock(&mu_);
    last_ = stats;
  }

  int64_t first_tokens() const { return Get(first_tokens_); }
  int64_t prompt_tokens() const { return Get(prompt_tokens_); }
  int64_t new_tokens() const { return Get(new_tokens_); }
  int64_t started_tokens() const { return Get(started_tokens_); }
  int64_t found_tokens() const { return Get(found_tokens_); }
  int64_t evicted() const { return Get(evicted_); }
  int64_t preempted() const { return Get(preempted_); }
  std::vector<StatusCode> done() const { return Get(done_); }
  SchedulerStats last() const { return Get(last_); }

 private:
  template <class T>
  T Get(const T& field) const {
    MutexLock lock(&mu_);
    return field;
  }
  mutable Mutex mu_;
  int64_t first_tokens_ = 0;
  int64_t prompt_tokens_ = 0;
  int64_t new_tokens_ = 0;
  int64_t started_tokens_ = 0;
  int64_t found_tokens_ = 0;
  int64_t evicted_ = 0;
  int64_t preempted_ = 0;
  std::vector<StatusCode> done_;
  SchedulerStats last_;
};

// The slice of the sequence that begins with `id`; num_tokens 0 if it has none.
SeenSlice SliceOf(const SeenStep& step, int32_t id) {
  for (const SeenSlice& slice : step) {
    if (slice.first_id == id) return slice;
  }
  return {};
}

std::vector<int32_t> FirstIds(const SeenStep& step) {
  std::vector<int32_t> ids;
  for (const SeenSlice& slice : step) ids.push_back(slice.first_id);
  return ids;
}

class GenerateSchedulerTest : public ::testing::Test {
 protected:
  GenerateSchedulerTest() { options_.max_queued = 100'000; }
  ~GenerateSchedulerTest() override { Stop(); }
  void Stop() {
    if (engine_ != nullptr) engine_->Free();
    scheduler_ = nullptr;
  }

  // Sinks that outlive the scheduler.
  std::deque<RecordingSink>& Sinks(size_t count) {
    sinks_.emplace_back();
    for (size_t i = 0; i < count; ++i) sinks_.back().emplace_back();
    return sinks_.back();
  }
  RecordingSink& Sink() { return Sinks(1).front(); }

  void Start() {
    kv_ = std::make_shared<FakeKv>(info_);
    engine_ = std::make_shared<FakeEngine>(info_, kv_);
    scheduler_ = *GenerateScheduler::Create(options_, engine_, tokenizer_,
                                            clock_, observer_);
  }
  void StartHeld() {
    Start();
    engine_->Hold();
  }

  // `length` tokens that begin with `first`.
  static std::vector<int32_t> Prompt(int32_t first, int64_t length) {
    std::vector<int32_t> prompt(length);
    for (int64_t i = 0; i < length; ++i) {
      prompt[i] = static_cast<int32_t>((first + 3 * i) % 60);
    }
    return prompt;
  }
  GenerateParams Params(std::vector<int32_t> prompt, int64_t max_new) {
    GenerateParams params;
    params.prompt = std::move(prompt);
    params.max_new_tokens = max_new;
    params.arrival = clock_.Now();
    return params;
  }
  GenerateScheduler::RequestId Submit(GenerateParams params,
                                      RecordingSink* sink) {
    auto id = scheduler_->Submit(std::move(params), sink);
    EXPECT_OK(id);
    return id.value_or(0);
  }
  // Submits while a held step waits, so that it joins the next one.
  GenerateScheduler::RequestId Submit(int32_t first, int64_t length,
                                      int64_t max_new, RecordingSink* sink) {
    return Submit(Params(Prompt(first, length), max_new), sink);
  }
  // Ends the held step and returns the next.
  SeenStep NextStep() {
    engine_->Finish();
    return engine_->AwaitStep();
  }
  // Waits until nothing runs and nothing waits.
  void ExpectAllFree() {
    EXPECT_EQ(scheduler_->stats().running, 0);
    EXPECT_EQ(scheduler_->stats().queued, 0);
    EXPECT_EQ(scheduler_->stats().kv_used_bytes, 0);
  }
  // `text` of the tokens.
  std::string TextOf(const std::vector<int32_t>& ids) {
    return tokenizer_.Decode(ids, true);
  }

  EngineInfo info_ = FakeEngine::DefaultInfo();
  // Steps have the tokens that they may, however long they take.
  GenerateScheduler::Options options_ = {.max_step_beside_decode =
                                             absl::InfiniteDuration()};
  FakeClock clock_;
  FakeTokenizer tokenizer_;
  CountingObserver observer_;
  std::deque<std::deque<RecordingSink>> sinks_;
  std::shared_ptr<FakeKv> kv_;
  std::shared_ptr<FakeEngine> engine_;
  std::unique_ptr<GenerateScheduler> scheduler_;
};

TEST_F(GenerateSchedulerTest, ContinuesAPromptUntilTheLimit) {
  Start();
  RecordingSink& sink = Sink();
  GenerateParams params = Params(Prompt(3, 7), 12);
  Submit(params, &sink);
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_OK(sink.status());
  const std::vector<int32_t> wanted = FakeContinuation(params.prompt, 12, 60);
  EXPECT_EQ(sink.token_ids(), wanted);
  EXPECT_EQ(sink.result().reason, FinishReason::kLength);
  EXPECT_EQ(sink.result().prompt_tokens, 7);
  EXPECT_EQ(sink.result().new_tokens, 12);
  EXPECT_EQ(sink.result().model_version, 1);
  EXPECT_EQ(sink.result().method, "fake");
  scheduler_->Drain(absl::InfiniteFuture());
  EXPECT_EQ(observer_.prompt_tokens(), 7);
  EXPECT_EQ(observer_.new_tokens(), 12);
  EXPECT_EQ(observer_.first_tokens(), 1);
  EXPECT_THAT(observer_.done(), ElementsAre(StatusCode::kOk));
  ExpectAllFree();
}

TEST_F(GenerateSchedulerTest, LetsSequencesJoinAndLeaveBetweenSteps) {
  StartHeld();
  RecordingSink& a = Sink();
  RecordingSink& b = Sink();
  RecordingSink& c = Sink();
  Submit(1, 2, 4, &a);
  EXPECT_THAT(FirstIds(engine_->AwaitStep()), ElementsAre(1));
  Submit(2, 3, 2, &b);
  SeenStep step = NextStep();
  EXPECT_THAT(FirstIds(step), ElementsAre(1, 2));
  EXPECT_EQ(SliceOf(step, 1).num_tokens, 1);
  EXPECT_EQ(SliceOf(step, 2).num_tokens, 3);
  Submit(3, 1, 3, &c);
  step = NextStep();
  EXPECT_THAT(FirstIds(step), ElementsAre(1, 2, 3));
  step = NextStep();  // b had two tokens
  EXPECT_TRUE(b.done());
  EXPECT_FALSE(a.done());
  EXPECT_THAT(FirstIds(step), ElementsAre(1, 3));
  step = NextStep();  // a had four
  EXPECT_TRUE(a.done());
  EXPECT_THAT(FirstIds(step), ElementsAre(3));
  engine_->Free();
  ASSERT_TRUE(c.AwaitDone());
  EXPECT_EQ(a.token_ids(), FakeContinuation(Prompt(1, 2), 4, 60));
  EXPECT_EQ(b.token_ids(), FakeContinuation(Prompt(2, 3), 2, 60));
  EXPECT_EQ(c.token_ids(), FakeContinuation(Prompt(3, 1), 3, 60));
}

TEST_F(GenerateSchedulerTest, GivesTheSameTokensInABatchAsAlone) {
  info_.num_kv_blocks = 400;
  options_.max_running = 16;
  options_.max_step_tokens = 16;
  options_.max_prefill_tokens_beside_decode = 5;
  const auto params_of = [&](int i) {
    GenerateParams params = Params(Prompt(i, 1 + i * 5 % 37), 5 + i * 7 % 31);
    if (i % 3 != 0) {
      params.sampling.temperature = 0.5f + 0.1f * (i % 7);
      params.sampling.top_k = i % 2 == 0 ? 10 : 0;
      params.sampling.top_p = 0.9f;
      params.sampling.repetition_penalty = 1.1f;
      params.sampling.seed = i / 2;
    }
    params.num_logprobs = i % 3;
    return params;
  };
  constexpr int kSequences = 40;
  std::vector<std::vector<int32_t>> alone;
  for (int i = 0; i < kSequences; ++i) {
    Start();
    RecordingSink& sink = Sink();
    Submit(params_of(i), &sink);
    ASSERT_TRUE(sink.AwaitDone());
    alone.push_back(sink.token_ids());
    EXPECT_THAT(sink.logprobs(),
                SizeIs(i % 3 == 0 ? 0 : sink.token_ids().size()));
  }
  Start();
  std::deque<RecordingSink>& sinks = Sinks(kSequences);
  for (int i = 0; i < kSequences; ++i) Submit(params_of(i), &sinks[i]);
  for (int i = 0; i < kSequences; ++i) {
    ASSERT_TRUE(sinks[i].AwaitDone());
    EXPECT_EQ(sinks[i].token_ids(), alone[i]) << i;
  }
}

TEST_F(GenerateSchedulerTest, StartsRequestsInTheOrderTheyCame) {
  options_.max_running = 2;
  StartHeld();
  std::deque<RecordingSink>& sinks = Sinks(5);
  Submit(0, 1, 2, &sinks[0]);
  engine_->AwaitStep();
  for (int i = 1; i < 5; ++i) Submit(i, 1, 2, &sinks[i]);
  EXPECT_EQ(scheduler_->stats().queued, 4);
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(0, 1));
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(1, 2));
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(2, 3));
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(3, 4));
}

TEST_F(GenerateSchedulerTest, KeepsAWideRequestInFrontOfNarrowOnes) {
  info_.num_kv_blocks = 10;
  StartHeld();
  RecordingSink& narrow = Sink();
  RecordingSink& wide = Sink();
  RecordingSink& late = Sink();
  Submit(1, 12, 9, &narrow);  // 20 positions: 5 blocks
  engine_->AwaitStep();
  Submit(2, 28, 9, &wide);  // 7 blocks, and one for the other to grow into
  Submit(3, 1, 1, &late);   // 1 block: would fit, but came later
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(1));
  for (int i = 0; i < 7; ++i) EXPECT_THAT(FirstIds(NextStep()), ElementsAre(1));
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(2, 3));
  EXPECT_TRUE(narrow.done());
}

TEST_F(GenerateSchedulerTest, RefusesWhenTheQueueIsFull) {
  options_.max_running = 1;
  options_.max_queued = 2;
  StartHeld();
  std::deque<RecordingSink>& sinks = Sinks(4);
  Submit(1, 1, 5, &sinks[0]);
  engine_->AwaitStep();
  const auto first_queued = Submit(2, 1, 5, &sinks[1]);
  Submit(3, 1, 5, &sinks[2]);
  const auto refused =
      scheduler_->Submit(Params(Prompt(4, 1), 5), &sinks[3]).status();
  EXPECT_THAT(refused, StatusIs(StatusCode::kResourceExhausted,
                                HasSubstr("queue is full: 2 requests")));
  EXPECT_TRUE(RetryAfter(refused).has_value());
  scheduler_->Cancel(first_queued, absl::CancelledError("gone"));
  NextStep();
  Submit(4, 1, 5, &sinks[3]);
  EXPECT_FALSE(sinks[3].done());
}

TEST_F(GenerateSchedulerTest, RefusesWhatCanNeverFit) {
  info_.num_kv_blocks = 5;
  Start();
  RecordingSink& sink = Sink();
  // 20 prompt tokens and 2 new ones: 21 positions, 6 blocks of 100 bytes.
  const auto refused =
      scheduler_->Submit(Params(Prompt(1, 20), 2), &sink).status();
  EXPECT_THAT(refused,
              StatusIs(StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("need 600 bytes"),
                             HasSubstr("--kv_cache_bytes allows 500"))));
  EXPECT_FALSE(RetryAfter(refused).has_value());
  // One less fits exactly.
  Submit(1, 20, 1, &sink);
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_OK(sink.status());
}

TEST_F(GenerateSchedulerTest, RefusesPromptsTheModelCannotTake) {
  Start();
  RecordingSink& sink = Sink();
  EXPECT_THAT(scheduler_->Submit(Params({}, 5), &sink),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("no tokens")));
  EXPECT_THAT(scheduler_->Submit(Params({1, 64}, 5), &sink),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("id must be from 0 to 63, is 64")));
  EXPECT_THAT(scheduler_->Submit(Params({-1}, 5), &sink),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("is -1")));
  EXPECT_THAT(scheduler_->Submit(Params({1}, 0), &sink),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(scheduler_->Submit(Params(Prompt(1, 100), 5), &sink),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("at most 99 tokens, has 100"),
                             HasSubstr("100 positions"))));
  // 99 leave room for one, however many were asked for.
  Submit(1, 99, 1'000'000'000'000, &sink);
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_THAT(sink.token_ids(), SizeIs(1));
  EXPECT_EQ(sink.result().reason, FinishReason::kLength);
}

TEST_F(GenerateSchedulerTest, CutsALongPromptWhileOthersDecodeInEveryStep) {
  options_.max_step_tokens = 40;
  options_.max_prefill_tokens_beside_decode = 8;
  StartHeld();
  RecordingSink& talker = Sink();
  RecordingSink& novel = Sink();
  Submit(1, 2, 30, &talker);
  engine_->AwaitStep();
  Submit(2, 50, 3, &novel);
  std::vector<int64_t> chunks;
  SeenStep step = NextStep();
  for (; !SliceOf(step, 2).wants_logits; step = NextStep()) {
    EXPECT_EQ(SliceOf(step, 1).num_tokens, 1);
    chunks.push_back(SliceOf(step, 2).num_tokens);
  }
  EXPECT_THAT(chunks, ElementsAre(8, 8, 8, 8, 8, 8));
  EXPECT_EQ(SliceOf(step, 2).num_tokens, 2);
  engine_->Free();
  ASSERT_TRUE(novel.AwaitDone());
  EXPECT_EQ(novel.token_ids(), FakeContinuation(Prompt(2, 50), 3, 60));
}

TEST_F(GenerateSchedulerTest, CutsPromptsSoThatAStepTakesAboutAsLongAsItMay) {
  options_.max_step_beside_decode = absl::Milliseconds(50);
  StartHeld();
  RecordingSink& talker = Sink();
  RecordingSink& novel = Sink();
  Submit(1, 2, 30, &talker);
  engine_->AwaitStep();
  Submit(2, 90, 3, &novel);
  std::vector<int64_t> chunks;
  SeenStep step = NextStep();
  for (; !SliceOf(step, 2).wants_logits; step = NextStep()) {
    chunks.push_back(SliceOf(step, 2).num_tokens);
    clock_.Advance((1 + chunks.back()) * absl::Milliseconds(2));
  }
  // A small one to measure by; then 24 and the other's one, and a little more
  // the longer that goes on.
  EXPECT_THAT(chunks, ElementsAre(16, 25, 26));
  // What the rest of the prompt takes, less than a step may have, says nothing.
  EXPECT_EQ(SliceOf(step, 2).num_tokens, 23);
  RecordingSink& sequel = Sink();
  Submit(3, 90, 3, &sequel);
  clock_.Advance(absl::Milliseconds(500));
  EXPECT_EQ(SliceOf(NextStep(), 3).num_tokens, 24 - 1);  // two decode
  engine_->Free();
  ASSERT_TRUE(novel.AwaitDone());
  ASSERT_TRUE(sequel.AwaitDone());
  EXPECT_EQ(novel.token_ids(), FakeContinuation(Prompt(2, 90), 3, 60));
  EXPECT_EQ(sequel.token_ids(), FakeContinuation(Prompt(3, 90), 3, 60));
}

TEST_F(GenerateSchedulerTest, PrefillsInWholeStepsWhenNobodyDecodes) {
  options_.max_step_tokens = 40;
  options_.max_prefill_tokens_beside_decode = 8;
  StartHeld();
  RecordingSink& warm = Sink();
  RecordingSink& a = Sink();
  RecordingSink& b = Sink();
  const auto warm_id = Submit(9, 1, 5, &warm);
  engine_->AwaitStep();
  Submit(1, 50, 2, &a);
  Submit(2, 45, 2, &b);
  scheduler_->Cancel(warm_id, absl::CancelledError("gone"));
  SeenStep step = NextStep();
  EXPECT_EQ(SliceOf(step, 1).num_tokens, 20);
  EXPECT_EQ(SliceOf(step, 2).num_tokens, 20);
  step = NextStep();
  EXPECT_EQ(SliceOf(step, 1).num_tokens, 20);
  EXPECT_EQ(SliceOf(step, 2).num_tokens, 20);
  step = NextStep();
  EXPECT_EQ(SliceOf(step, 1).num_tokens, 10);
  EXPECT_EQ(SliceOf(step, 2).num_tokens, 5);
}

TEST_F(GenerateSchedulerTest, AShortPromptDoesNotWaitForALongOne) {
  options_.max_step_tokens = 64;
  options_.max_prefill_tokens_beside_decode = 40;
  StartHeld();
  RecordingSink& talker = Sink();
  RecordingSink& novel = Sink();
  RecordingSink& note = Sink();
  Submit(1, 2, 30, &talker);
  engine_->AwaitStep();
  Submit(2, 90, 3, &novel);
  Submit(3, 10, 3, &note);
  SeenStep step = NextStep();
  EXPECT_EQ(SliceOf(step, 1).num_tokens, 1);
  // Its half, and what the short one leaves.
  EXPECT_EQ(SliceOf(step, 2).num_tokens, 30);
  EXPECT_EQ(SliceOf(step, 3).num_tokens, 10);
  EXPECT_TRUE(SliceOf(step, 3).wants_logits);
  step = NextStep();
  EXPECT_THAT(note.token_ids(), SizeIs(1));
  EXPECT_EQ(SliceOf(step, 2).num_tokens, 40);
  engine_->Free();
  ASSERT_TRUE(novel.AwaitDone());
  ASSERT_TRUE(note.AwaitDone());
  EXPECT_EQ(novel.token_ids(), FakeContinuation(Prompt(2, 90), 3, 60));
  EXPECT_EQ(note.token_ids(), FakeContinuation(Prompt(3, 10), 3, 60));
}

TEST_F(GenerateSchedulerTest, ManyPromptsGetSharesWorthAStepOldestFirst) {
  options_.max_step_tokens = 40;
  StartHeld();
  RecordingSink& warm = Sink();
  std::deque<RecordingSink>& sinks = Sinks(4);
  const auto warm_id = Submit(9, 1, 5, &warm);
  engine_->AwaitStep();
  for (int i = 1; i <= 4; ++i) Submit(i, 30, 2, &sinks[i - 1]);
  scheduler_->Cancel(warm_id, absl::CancelledError("gone"));
  std::vector<std::vector<int64_t>> steps;
  for (int i = 0; i < 3; ++i) {
    const SeenStep step = NextStep();
    std::vector<int64_t>& tokens = steps.emplace_back();
    for (int id = 1; id <= 4; ++id) {
      tokens.push_back(SliceOf(step, id).num_tokens);
    }
  }
  // At the third step two decode, and 38 tokens are left.
  EXPECT_THAT(steps,
              ElementsAre(ElementsAre(16, 16, 8, 0), ElementsAre(14, 14, 12, 0),
                          ElementsAre(1, 1, 10, 28)));
}

// Where a request may be when it is cancelled or too late.
enum class Place { kQueue, kPrefill, kDecode, kPaused };

class EndingTest : public GenerateSchedulerTest,
                   public ::testing::WithParamInterface<Place> {
 protected:
  ~EndingTest() override { Stop(); }

  // Brings request `id_` with `deadline` to the place; a step is held after it.
  void Reach(absl::Time deadline) {
    options_.max_running = GetParam() == Place::kQueue ? 1 : 8;
    options_.max_prefill_tokens_beside_decode = 4;
    StartHeld();
    Submit(1, 2, 90, &other_);
    engine_->AwaitStep();
    GenerateParams params = Params(Prompt(2, 40), 30);
    params.deadline = deadline;
    if (GetParam() == Place::kDecode || GetParam() == Place::kPaused) {
      params.prompt = Prompt(2, 4);
    }
    id_ = Submit(std::move(params), &sink_);
    NextStep();
    if (GetParam() == Place::kPaused) sink_.set_has_room(false);
    const SeenStep step = NextStep();
    switch (GetParam()) {
      case Place::kQueue:
        ASSERT_EQ(scheduler_->stats().queued, 1);
        break;
      case Place::kPrefill:
        ASSERT_EQ(SliceOf(step, 2).position, 4);
        ASSERT_THAT(sink_.token_ids(), IsEmpty());
        break;
      case Place::kDecode:
        ASSERT_EQ(SliceOf(step, 2).num_tokens, 1);
        break;
      case Place::kPaused:
        ASSERT_EQ(SliceOf(step, 2).num_tokens, 0);
        ASSERT_THAT(sink_.token_ids(), SizeIs(1));
        break;
    }
    // What others see when they hear of the end.
    sink_.set_on_done([this] { at_done_ = scheduler_->stats(); });
  }
  void ExpectEndedInOneStep(StatusCode code) {
    const SeenStep step = NextStep();
    EXPECT_TRUE(sink_.done());
    EXPECT_THAT(sink_.status(), StatusIs(code));
    EXPECT_THAT(FirstIds(step), ElementsAre(1));
    EXPECT_EQ(at_done_.kv_used_bytes, 100) << "the other's few tokens";
    EXPECT_EQ(at_done_.running, 1);
    EXPECT_EQ(at_done_.queued, 0);
    engine_->Free();
    ASSERT_TRUE(other_.AwaitDone());
    EXPECT_EQ(other_.token_ids(), FakeContinuation(Prompt(1, 2), 90, 60));
    scheduler_->Drain(absl::InfiniteFuture());
    EXPECT_THAT(observer_.done(), ElementsAre(code, StatusCode::kOk));
    EXPECT_EQ(observer_.last().kv_used_bytes, 0);
  }

  GenerateScheduler::RequestId id_ = 0;
  RecordingSink& sink_ = Sink();
  RecordingSink& other_ = Sink();
  SchedulerStats at_done_;
};

INSTANTIATE_TEST_SUITE_P(Places, EndingTest,
                         ::testing::Values(Place::kQueue, Place::kPrefill,
                                           Place::kDecode, Place::kPaused),
                         [](const auto& info) -> std::string {
                           switch (info.param) {
                             case Place::kQueue:
                               return "Queue";
                             case Place::kPrefill:
                               return "Prefill";
                             case Place::kDecode:
                               return "Decode";
                             case Place::kPaused:
                               return "Paused";
                           }
                           return "";
                         });

TEST_P(EndingTest, CancelFreesTheBlocksWithinOneStep) {
  Reach(absl::InfiniteFuture());
  scheduler_->Cancel(id_, absl::CancelledError("gone"));
  ExpectEndedInOneStep(StatusCode::kCancelled);
}

TEST_P(EndingTest, ADeadlineFreesTheBlocksWithinOneStep) {
  Reach(clock_.Now() + absl::Seconds(5));
  clock_.Advance(absl::Seconds(5));
  ExpectEndedInOneStep(StatusCode::kDeadlineExceeded);
}

TEST_P(EndingTest, ACancelSaysHowItEnds) {
  Reach(absl::InfiniteFuture());
  scheduler_->Cancel(id_, absl::DeadlineExceededError("the client says so"));
  ExpectEndedInOneStep(StatusCode::kDeadlineExceeded);
}

TEST_F(GenerateSchedulerTest, CancelOfUnknownAndFinishedRequestsIsFine) {
  Start();
  RecordingSink& sink = Sink();
  const auto id = Submit(1, 2, 3, &sink);
  ASSERT_TRUE(sink.AwaitDone());
  scheduler_->Cancel(id, absl::CancelledError("gone"));
  scheduler_->Cancel(987654, absl::CancelledError("gone"));
  RecordingSink& next = Sink();
  Submit(1, 2, 3, &next);
  ASSERT_TRUE(next.AwaitDone());
  EXPECT_OK(next.status());
}

TEST_F(GenerateSchedulerTest, GivesTheMemoryOfFinishedSequencesBack) {
  Start();
  RecordingSink& sink = Sink();
  Submit(1, 10, 3, &sink);  // 12 positions: 3 blocks
  ASSERT_TRUE(sink.AwaitDone());
  // And that of the others, which lie in the same huge pages.
  std::vector<int32_t> all(FakeEngine::DefaultInfo().num_kv_blocks);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(engine_->released(), all);
}

TEST_F(GenerateSchedulerTest, HoldsBackOnlyTheSequenceOfASlowReader) {
  StartHeld();
  RecordingSink& slow = Sink();
  RecordingSink& fast = Sink();
  Submit(1, 2, 6, &slow);
  engine_->AwaitStep();
  Submit(2, 2, 8, &fast);
  NextStep();
  slow.set_has_room(false);
  for (int i = 0; i < 5; ++i) EXPECT_THAT(FirstIds(NextStep()), ElementsAre(2));
  EXPECT_THAT(slow.token_ids(), SizeIs(2));
  slow.set_has_room(true);
  scheduler_->Wake();
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(1, 2));
  engine_->Free();
  ASSERT_TRUE(slow.AwaitDone());
  ASSERT_TRUE(fast.AwaitDone());
  EXPECT_EQ(slow.token_ids(), FakeContinuation(Prompt(1, 2), 6, 60));
  EXPECT_EQ(fast.token_ids(), FakeContinuation(Prompt(2, 2), 8, 60));
}

TEST_F(GenerateSchedulerTest, WakesWhenTheOnlyReaderHasRoomAgain) {
  StartHeld();
  RecordingSink& sink = Sink();
  Submit(1, 2, 6, &sink);
  engine_->AwaitStep();
  NextStep();
  sink.set_has_room(false);
  engine_->Free();
  ASSERT_TRUE(sink.AwaitTokens(2));
  const size_t steps = engine_->steps().size();
  scheduler_->Wake();  // nothing has changed yet
  sink.set_has_room(true);
  scheduler_->Wake();
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_EQ(engine_->steps().size(), steps + 4);
}

TEST_F(GenerateSchedulerTest, WakesForTheDeadlineOfAPausedRequest) {
  StartHeld();
  RecordingSink& sink = Sink();
  GenerateParams params = Params(Prompt(1, 2), 6);
  params.deadline = clock_.Now() + absl::Milliseconds(50);
  Submit(std::move(params), &sink);
  engine_->AwaitStep();
  sink.set_has_room(false);
  engine_->Free();
  ASSERT_TRUE(sink.AwaitTokens(1));
  // The thread sleeps 50 ms of real time, from before the clock is moved;
  // nobody calls Wake.
  absl::SleepFor(absl::Milliseconds(20));
  clock_.Advance(absl::Milliseconds(50));
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_THAT(sink.status(), StatusIs(StatusCode::kDeadlineExceeded,
                                      HasSubstr("after 1 new tokens")));
}

TEST_F(GenerateSchedulerTest, EndsTheRequestOfAReaderWhoTakesNothing) {
  options_.max_running = 2;
  StartHeld();
  RecordingSink& stuck = Sink();
  RecordingSink& other = Sink();
  Submit(1, 2, 40, &stuck);
  engine_->AwaitStep();
  Submit(2, 2, 40, &other);
  NextStep();
  stuck.set_has_room(false);
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(2));
  // It read after all, before anybody looked.
  clock_.Advance(absl::Seconds(61));
  stuck.set_has_room(true);
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(1, 2));
  // The time before counts no more.
  stuck.set_has_room(false);
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(2));
  clock_.Advance(absl::Seconds(59));
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(2));
  EXPECT_FALSE(stuck.done());
  RecordingSink& next = Sink();
  Submit(3, 2, 2, &next);
  clock_.Advance(absl::Seconds(1));
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(2, 3));
  ASSERT_TRUE(stuck.done());
  EXPECT_THAT(stuck.status(),
              StatusIs(StatusCode::kDeadlineExceeded,
                       HasSubstr("read nothing for 1m, after 3 new tokens")));
  engine_->Free();
  ASSERT_TRUE(other.AwaitDone());
  ASSERT_TRUE(next.AwaitDone());
  EXPECT_OK(other.status());
  EXPECT_OK(next.status());
}

TEST_F(GenerateSchedulerTest, DrainEndsThoughAReaderTakesNothing) {
  options_.max_pause = absl::Milliseconds(50);
  Start();
  RecordingSink& sink = Sink();
  sink.set_room(1);
  Submit(1, 2, 6, &sink);
  ASSERT_TRUE(sink.AwaitTokens(1));
  std::thread drain([&] { scheduler_->Drain(absl::InfiniteFuture()); });
  // Nobody calls Wake.
  for (int i = 0; i < 3000 && !sink.done(); ++i) {
    clock_.Advance(absl::Milliseconds(10));
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_THAT(sink.status(), StatusIs(StatusCode::kDeadlineExceeded));
  sink.set_has_room(true);  // so that the test ends when it fails
  scheduler_->Wake();
  drain.join();
  ExpectAllFree();
}

TEST_F(GenerateSchedulerTest, TakesBlocksAsTokensCome) {
  StartHeld();
  RecordingSink& sink = Sink();
  Submit(1, 6, 40, &sink);
  std::vector<int64_t> used;
  SeenStep step = engine_->AwaitStep();
  for (int i = 0; i < 8; ++i) {
    used.push_back(static_cast<int64_t>(SliceOf(step, 1).blocks.size()));
    step = NextStep();
  }
  // 6 tokens, then one more a step, in blocks of 4.
  EXPECT_THAT(used, ElementsAre(2, 2, 2, 3, 3, 3, 3, 4));
  EXPECT_EQ(scheduler_->stats().kv_used_bytes, 400);
}

TEST_F(GenerateSchedulerTest, TheYoungestGivesItsBlocksAndGoesOnAfterwards) {
  info_.num_kv_blocks = 6;
  StartHeld();
  RecordingSink& elder = Sink();
  RecordingSink& younger = Sink();
  Submit(1, 4, 20, &elder);  // 6 blocks at the end
  engine_->AwaitStep();
  Submit(2, 4, 12, &younger);
  SeenStep step = NextStep();
  while (SliceOf(step, 2).num_tokens > 0) step = NextStep();
  // Each had three blocks, and the elder needed a fourth.
  EXPECT_EQ(SliceOf(step, 1).position, 12);
  EXPECT_THAT(SliceOf(step, 1).blocks, SizeIs(4));
  EXPECT_EQ(scheduler_->stats().queued, 1);
  const std::vector<int32_t> so_far = younger.token_ids();
  while (!elder.done()) {
    EXPECT_THAT(FirstIds(step), ElementsAre(1));
    step = NextStep();
  }
  // All its tokens again, in one step.
  EXPECT_EQ(SliceOf(step, 2).position, 0);
  EXPECT_EQ(SliceOf(step, 2).num_tokens,
            4 + static_cast<int64_t>(so_far.size()));
  EXPECT_TRUE(SliceOf(step, 2).wants_logits);
  engine_->Free();
  ASSERT_TRUE(younger.AwaitDone());
  EXPECT_EQ(elder.token_ids(), FakeContinuation(Prompt(1, 4), 20, 60));
  EXPECT_EQ(younger.token_ids(), FakeContinuation(Prompt(2, 4), 12, 60));
  scheduler_->Drain(absl::InfiniteFuture());
  EXPECT_EQ(observer_.preempted(), 1);
  EXPECT_EQ(observer_.prompt_tokens(), 8) << "each is told once";
  EXPECT_EQ(observer_.new_tokens(), 32);
  EXPECT_EQ(observer_.first_tokens(), 2);
  ExpectAllFree();
}

TEST_F(GenerateSchedulerTest, SaysTheSameWithoutRoomAsWithRoom) {
  // Text, logprobs, the number of the random draw, stop strings that are held
  // back: all of it must outlive the loss of the blocks.
  const auto params_of = [&](int i) {
    GenerateParams params = Params(Prompt(i, 1 + i * 5 % 17), 5 + i * 7 % 31);
    params.peer = std::string(1, static_cast<char>('a' + i % 3));
    params.sampling.temperature = i % 3 == 0 ? 0 : 0.9f;
    params.sampling.repetition_penalty = 1.1f;
    params.sampling.seed = i;
    params.num_logprobs = i % 4;
    params.stop = {"the end of it", "zqzq"};
    return params;
  };
  constexpr int kSequences = 40;
  options_.max_running = 16;
  options_.max_step_tokens = 16;
  options_.max_prefill_tokens_beside_decode = 5;
  const auto run = [&](int64_t num_blocks) {
    info_.num_kv_blocks = num_blocks;
    Start();
    std::deque<RecordingSink>& sinks = Sinks(kSequences);
    // So that all are there at once, however slow this thread is.
    engine_->Hold();
    for (int i = 0; i < kSequences; ++i) Submit(params_of(i), &sinks[i]);
    engine_->Free();
    for (RecordingSink& sink : sinks) EXPECT_TRUE(sink.AwaitDone());
    return &sinks;
  };
  const std::deque<RecordingSink>& roomy = *run(400);
  scheduler_->Drain(absl::InfiniteFuture());
  EXPECT_EQ(observer_.preempted(), 0);
  const std::deque<RecordingSink>& tight = *run(14);
  scheduler_->Drain(absl::InfiniteFuture());
  EXPECT_GE(observer_.preempted(), 10);
  for (int i = 0; i < kSequences; ++i) {
    EXPECT_OK(tight[i].status());
    EXPECT_EQ(tight[i].token_ids(), roomy[i].token_ids()) << i;
    EXPECT_EQ(tight[i].text(), roomy[i].text()) << i;
    EXPECT_EQ(tight[i].result().reason, roomy[i].result().reason) << i;
    const auto a = tight[i].logprobs(), b = roomy[i].logprobs();
    ASSERT_EQ(a.size(), b.size());
    for (size_t t = 0; t < a.size(); ++t) {
      EXPECT_EQ(a[t].logprob, b[t].logprob);
    }
  }
  ExpectAllFree();
}

TEST_F(GenerateSchedulerTest, APushedOutSequenceKeepsItsVersion) {
  info_.num_kv_blocks = 6;
  StartHeld();
  RecordingSink& elder = Sink();
  RecordingSink& younger = Sink();
  Submit(1, 4, 20, &elder);
  engine_->AwaitStep();
  Submit(2, 4, 12, &younger);
  while (SliceOf(NextStep(), 2).num_tokens == 0) {
  }
  scheduler_->SetEngine(std::make_shared<FakeEngine>(info_, kv_, /*salt=*/99));
  engine_->Free();
  ASSERT_TRUE(elder.AwaitDone());
  ASSERT_TRUE(younger.AwaitDone());
  EXPECT_EQ(elder.token_ids(), FakeContinuation(Prompt(1, 4), 20, 60));
  EXPECT_EQ(younger.token_ids(), FakeContinuation(Prompt(2, 4), 12, 60));
  scheduler_->Drain(absl::InfiniteFuture());
  EXPECT_EQ(observer_.preempted(), 1);
}

TEST_F(GenerateSchedulerTest, APushedOutSequenceCanBeCancelledAndBeLate) {
  info_.num_kv_blocks = 6;
  for (const bool cancel : {true, false}) {
    StartHeld();
    RecordingSink& elder = Sink();
    RecordingSink& younger = Sink();
    Submit(1, 4, 20, &elder);
    engine_->AwaitStep();
    GenerateParams params = Params(Prompt(2, 4), 12);
    params.deadline = clock_.Now() + absl::Seconds(5);
    const auto id = Submit(std::move(params), &younger);
    NextStep();
    while (SliceOf(NextStep(), 2).num_tokens > 0) {
    }
    if (cancel) {
      scheduler_->Cancel(id, absl::CancelledError("gone"));
    } else {
      clock_.Advance(absl::Seconds(5));
    }
    EXPECT_THAT(FirstIds(NextStep()), ElementsAre(1));
    ASSERT_TRUE(younger.done());
    EXPECT_THAT(younger.status(),
                StatusIs(cancel ? StatusCode::kCancelled
                                : StatusCode::kDeadlineExceeded));
    EXPECT_EQ(younger.result().new_tokens, 8);
    engine_->Free();
    ASSERT_TRUE(elder.AwaitDone());
    EXPECT_OK(elder.status());
    Stop();
  }
}

TEST_F(GenerateSchedulerTest, StalledReadersKeepNobodyWaiting) {
  info_.num_kv_blocks = 30;
  options_.stall_after = absl::ZeroDuration();
  StartHeld();
  std::deque<RecordingSink>& stalled = Sinks(3);
  for (int i = 0; i < 3; ++i) {
    Submit(i + 1, 36, 60, &stalled[i]);
    if (i == 0) engine_->AwaitStep();
  }
  NextStep();
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(1, 2, 3));
  for (RecordingSink& sink : stalled) sink.set_has_room(false);
  RecordingSink& victim = Sink();
  Submit(9, 40, 5, &victim);  // 10 blocks; nothing is free
  engine_->Free();
  ASSERT_TRUE(victim.AwaitDone());
  EXPECT_EQ(victim.token_ids(), FakeContinuation(Prompt(9, 40), 5, 60));
  for (RecordingSink& sink : stalled) {
    EXPECT_FALSE(sink.done());
    sink.set_has_room(true);
  }
  scheduler_->Wake();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(stalled[i].AwaitDone());
    EXPECT_EQ(stalled[i].token_ids(),
              FakeContinuation(Prompt(i + 1, 36), 60, 60));
  }
}

TEST_F(GenerateSchedulerTest, AStalledReaderHoldsNoPlace) {
  options_.max_running = 1;
  options_.stall_after = absl::Milliseconds(50);
  Start();
  RecordingSink& slow = Sink();
  RecordingSink& next = Sink();
  slow.set_room(1);
  Submit(1, 2, 6, &slow);
  ASSERT_TRUE(slow.AwaitTokens(1));
  Submit(2, 2, 4, &next);
  absl::SleepFor(absl::Milliseconds(60));
  EXPECT_FALSE(next.done()) << "by the clock it has only just fallen behind";
  // Nobody calls Wake.
  for (int i = 0; i < 3000 && !next.done(); ++i) {
    clock_.Advance(absl::Milliseconds(10));
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_OK(next.status());
  EXPECT_THAT(next.token_ids(), SizeIs(4));
  EXPECT_THAT(slow.token_ids(), SizeIs(1));
  slow.set_has_room(true);
  scheduler_->Wake();
  ASSERT_TRUE(slow.AwaitDone());
  EXPECT_EQ(slow.token_ids(), FakeContinuation(Prompt(1, 2), 6, 60));
}

TEST_F(GenerateSchedulerTest, AReaderWhoComesBackWaitsForAPlace) {
  options_.max_running = 1;
  options_.stall_after = absl::ZeroDuration();
  StartHeld();
  RecordingSink& slow = Sink();
  RecordingSink& next = Sink();
  Submit(1, 2, 6, &slow);
  engine_->AwaitStep();
  Submit(2, 2, 4, &next);
  slow.set_has_room(false);
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(2));
  EXPECT_EQ(scheduler_->stats().running, 2);
  slow.set_has_room(true);
  for (int i = 0; i < 3; ++i) EXPECT_THAT(FirstIds(NextStep()), ElementsAre(2));
  EXPECT_EQ(scheduler_->stats().running, 1);
  EXPECT_EQ(scheduler_->stats().queued, 1);
  const SeenStep step = NextStep();
  EXPECT_THAT(FirstIds(step), ElementsAre(1));
  EXPECT_EQ(SliceOf(step, 1).position, 0) << "the blocks went with the place";
  engine_->Free();
  ASSERT_TRUE(slow.AwaitDone());
  EXPECT_EQ(slow.token_ids(), FakeContinuation(Prompt(1, 2), 6, 60));
}

TEST_F(GenerateSchedulerTest, OfTooManyStalledReadersTheWorstPeersGo) {
  options_.max_stalled = 2;
  StartHeld();
  std::deque<RecordingSink>& hogs = Sinks(3);
  RecordingSink& other = Sink();
  for (int i = 0; i < 4; ++i) {
    GenerateParams params = Params(Prompt(i + 1, 2), 20);
    params.peer = i < 3 ? "hog" : "other";
    Submit(std::move(params), i < 3 ? &hogs[i] : &other);
    if (i == 0) engine_->AwaitStep();
  }
  NextStep();
  // One after the other falls behind, the other peer's first.
  for (RecordingSink* sink : {&other, &hogs[2], &hogs[1], &hogs[0]}) {
    sink->set_has_room(false);
    NextStep();
    clock_.Advance(absl::Milliseconds(10));
    if (sink == &hogs[1]) break;
  }
  clock_.Advance(absl::Seconds(2));
  NextStep();
  NextStep();
  EXPECT_FALSE(other.done());
  EXPECT_FALSE(hogs[1].done());
  ASSERT_TRUE(hogs[2].done()) << "behind for longest, of the worst peer";
  EXPECT_THAT(hogs[2].status(), StatusIs(StatusCode::kResourceExhausted,
                                         HasSubstr("more than 2 others")));
  EXPECT_TRUE(RetryAfter(hogs[2].status()).has_value());
}

TEST_F(GenerateSchedulerTest, PeersStartInTurn) {
  options_.max_running = 1;
  StartHeld();
  std::deque<RecordingSink>& sinks = Sinks(6);
  Submit(0, 1, 1, &sinks[0]);
  engine_->AwaitStep();
  const char* const peers[] = {"", "hog", "hog", "hog", "a", "b"};
  for (int i = 1; i < 6; ++i) {
    GenerateParams params = Params(Prompt(i, 1), 1);
    params.peer = peers[i];
    Submit(std::move(params), &sinks[i]);
  }
  std::vector<int32_t> order;
  for (int i = 1; i < 6; ++i) order.push_back(NextStep()[0].first_id);
  EXPECT_THAT(order, ElementsAre(1, 4, 5, 2, 3));
}

TEST_F(GenerateSchedulerTest, AThousandOfOnePeerKeepNobodyElseWaiting) {
  options_.max_running = 8;
  StartHeld();
  std::deque<RecordingSink>& hogs = Sinks(1000);
  for (int i = 0; i < 1000; ++i) {
    GenerateParams params = Params(Prompt(1, 2), 20);
    params.peer = "hog";
    Submit(std::move(params), &hogs[i]);
    if (i == 0) engine_->AwaitStep();
  }
  EXPECT_THAT(FirstIds(NextStep()), SizeIs(8));
  std::deque<RecordingSink>& others = Sinks(2);
  for (int i = 0; i < 2; ++i) {
    GenerateParams params = Params(Prompt(2 + i, 2), 3);
    params.peer = absl::StrCat("other ", i);
    Submit(std::move(params), &others[i]);
  }
  // In the very next step, though 992 came before and no place was free.
  EXPECT_THAT(FirstIds(NextStep()), AllOf(SizeIs(8), Contains(2), Contains(3)));
  for (int i = 0; i < 3; ++i) NextStep();
  for (RecordingSink& other : others) EXPECT_TRUE(other.AwaitDone());
  EXPECT_FALSE(hogs[0].done());
}

// One place, and a step of one second for each request; as many of the peer
// "hog" wait as the test says, and six have started since others waited.
class DeadlineTest : public GenerateSchedulerTest {
 protected:
  ~DeadlineTest() override { Stop(); }
  void Start(int waiting) {
    options_.max_running = 1;
    options_.max_step_tokens = 16;
    options_.max_prefill_tokens_beside_decode = 16;
    StartHeld();
    for (int i = 0; i < waiting + 7; ++i) {
      Submit(Of("hog", 8), &sink_of_hogs_.emplace_back());
      if (i == 0) engine_->AwaitStep();
    }
    for (int i = 0; i < 6; ++i) SlowStep();
  }
  void SlowStep() {
    clock_.Advance(absl::Seconds(1));
    NextStep();
  }
  GenerateParams Of(const std::string& peer, int64_t prompt) {
    GenerateParams params = Params(Prompt(1, prompt), 1);
    params.peer = peer;
    return params;
  }
  absl::Status Try(GenerateParams params, absl::Duration deadline) {
    params.deadline = clock_.Now() + deadline;
    return scheduler_->Submit(std::move(params), &Sink()).status();
  }

  std::deque<RecordingSink> sink_of_hogs_;
};

TEST_F(DeadlineTest, WhatCannotBeginInTimeIsRefusedAtOnce) {
  Start(20);
  const absl::Status refused = Try(Of("hog", 8), absl::Seconds(10));
  EXPECT_EQ(ReasonOf(refused), Reason::kDeadlineTooSoon) << refused;
  EXPECT_THAT(refused.message(),
              AllOf(HasSubstr("the first token would come in about 21s"),
                    HasSubstr("the deadline is in 10s")));
  EXPECT_EQ(scheduler_->stats().queued, 20);
  EXPECT_OK(Try(Of("hog", 8), absl::Seconds(11)));
  EXPECT_OK(Try(Of("hog", 8), absl::InfiniteDuration()));
  // Who passed before is told by the request's end.
  EXPECT_OK(Try(Of("hog", 8), absl::ZeroDuration()));
}

TEST_F(DeadlineTest, APromptThatBeginsLikeAnotherTakesFewerSteps) {
  options_.prefix_cache.max_bytes = 1 << 20;
  Start(0);
  EXPECT_EQ(ReasonOf(Try(Of("other", 96), absl::Seconds(2))),
            Reason::kDeadlineTooSoon);
  RecordingSink& other = Sink();
  Submit(Of("other", 90), &other);
  for (int i = 0; i < 2; ++i) Submit(Of("hog", 8), &Sink());
  while (!other.done()) SlowStep();
  EXPECT_OK(Try(Of("other", 96), absl::Seconds(2)));
}

TEST_F(DeadlineTest, ManyOfOnePeerDoNotHaveAnothersRefused) {
  Start(20);
  EXPECT_OK(Try(Of("other", 8), absl::Seconds(1)));
}

TEST_F(DeadlineTest, ThoseThatHaveJustComeAreNotTakenToWaitForRoom) {
  Start(0);
  for (int i = 0; i < 20; ++i) EXPECT_OK(Try(Of("hog", 8), absl::Seconds(1)));
  EXPECT_OK(Try(Of("hog", 8), absl::Seconds(1)));
}

TEST_F(DeadlineTest, APromptTakesItsSteps) {
  Start(0);
  // At best 6 of 16 tokens.
  EXPECT_EQ(ReasonOf(Try(Of("other", 96), absl::Seconds(2))),
            Reason::kDeadlineTooSoon);
  EXPECT_OK(Try(Of("other", 96), absl::Seconds(3)));
  EXPECT_OK(Try(Of("other", 8), absl::Seconds(1)));
}

TEST_F(DeadlineTest, NobodyIsRefusedBySpeedsOfLongAgo) {
  Start(0);
  engine_->Free();
  ASSERT_TRUE(sink_of_hogs_.back().AwaitDone());
  clock_.Advance(absl::Seconds(11));
  EXPECT_OK(Try(Of("other", 96), absl::Seconds(1)));
}

TEST_F(DeadlineTest, NobodyIsRefusedBeforeSpeedsAreKnown) {
  options_.max_running = 1;
  StartHeld();
  for (int i = 0; i < 20; ++i) {
    EXPECT_OK(Try(Of("hog", 8), absl::Milliseconds(1)));
    if (i == 0) engine_->AwaitStep();
  }
}

TEST_F(GenerateSchedulerTest, SaysWhoseDeadlinePassed) {
  StartHeld();
  GenerateParams params = Params(Prompt(1, 2), 5);
  params.deadline = clock_.Now() + absl::Seconds(1);
  params.servers_deadline = true;
  RecordingSink& sink = Sink();
  Submit(std::move(params), &sink);
  engine_->AwaitStep();
  clock_.Advance(absl::Seconds(1));
  engine_->Free();
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_THAT(sink.status(), StatusIs(StatusCode::kDeadlineExceeded,
                                      HasSubstr("after 1 new tokens")));
  EXPECT_EQ(ReasonOf(sink.status()), Reason::kRequestTooLong);
}

TEST_F(GenerateSchedulerTest, AFullQueueMakesRoomAtTheCostOfWhoHasMost) {
  options_.max_running = 1;
  options_.max_queued = 3;
  StartHeld();
  std::deque<RecordingSink>& hogs = Sinks(5);
  for (int i = 0; i < 4; ++i) {
    GenerateParams params = Params(Prompt(i + 1, 2), 3);
    params.peer = "hog";
    Submit(std::move(params), &hogs[i]);
    if (i == 0) engine_->AwaitStep();
  }
  GenerateParams params = Params(Prompt(5, 2), 3);
  params.peer = "hog";
  EXPECT_THAT(scheduler_->Submit(std::move(params), &hogs[4]),
              StatusIs(StatusCode::kResourceExhausted));
  RecordingSink& other = Sink();
  params = Params(Prompt(6, 2), 3);
  params.peer = "other";
  Submit(std::move(params), &other);
  EXPECT_EQ(scheduler_->stats().queued, 3);
  engine_->Free();
  ASSERT_TRUE(hogs[3].AwaitDone());
  EXPECT_THAT(hogs[3].status(), StatusIs(StatusCode::kResourceExhausted,
                                         HasSubstr("queue is full")));
  EXPECT_TRUE(RetryAfter(hogs[3].status()).has_value());
  ASSERT_TRUE(other.AwaitDone());
  EXPECT_OK(other.status());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(hogs[i].AwaitDone());
    EXPECT_OK(hogs[i].status());
  }
  EXPECT_TRUE(scheduler_->Drain(absl::InfiniteFuture()));
}

TEST_F(GenerateSchedulerTest, ANewcomerGetsAPlaceFromWhoHasThemAll) {
  options_.max_running = 4;
  StartHeld();
  std::deque<RecordingSink>& hogs = Sinks(5);
  for (int i = 0; i < 5; ++i) {
    GenerateParams params = Params(Prompt(i + 1, 2), 20);
    params.peer = "hog";
    Submit(std::move(params), &hogs[i]);
    if (i == 0) engine_->AwaitStep();
  }
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(1, 2, 3, 4));
  std::deque<RecordingSink>& others = Sinks(2);
  for (int i = 0; i < 2; ++i) {
    GenerateParams params = Params(Prompt(i + 6, 2), 4);
    params.peer = "other";
    Submit(std::move(params), &others[i]);
  }
  // At once, at the cost of the youngest; not more than a fair share.
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(1, 2, 3, 6));
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(1, 2, 3, 6));
  EXPECT_EQ(scheduler_->stats().queued, 3);
  engine_->Free();
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(hogs[i].AwaitDone());
    EXPECT_EQ(hogs[i].token_ids(), FakeContinuation(Prompt(i + 1, 2), 20, 60));
  }
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(others[i].AwaitDone());
    EXPECT_OK(others[i].status());
  }
}

TEST_F(GenerateSchedulerTest, WithoutBlocksThePeerThatHoldsMostGivesThem) {
  info_.num_kv_blocks = 12;
  StartHeld();
  std::deque<RecordingSink>& hogs = Sinks(2);
  RecordingSink& other = Sink();
  for (int i = 0; i < 3; ++i) {
    GenerateParams params = Params(Prompt(i + 1, i < 2 ? 16 : 4), 16);
    params.peer = i < 2 ? "hog" : "other";
    Submit(std::move(params), i < 2 ? &hogs[i] : &other);
    if (i == 0) engine_->AwaitStep();
  }
  SeenStep step = NextStep();
  while (FirstIds(step).size() == 3 || step.size() < 2) step = NextStep();
  // The youngest of all is not of the peer that holds most.
  EXPECT_THAT(FirstIds(step), ElementsAre(1, 3));
  engine_->Free();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(hogs[i].AwaitDone());
    EXPECT_EQ(hogs[i].token_ids(), FakeContinuation(Prompt(i + 1, 16), 16, 60));
  }
  ASSERT_TRUE(other.AwaitDone());
  EXPECT_EQ(other.token_ids(), FakeContinuation(Prompt(3, 4), 16, 60));
}

TEST_F(GenerateSchedulerTest, OneThatMayNotHoldMoreGoesOnLater) {
  options_.may_hold_kv_bytes = [](int64_t bytes) { return bytes <= 600; };
  Start();
  std::deque<RecordingSink>& sinks = Sinks(6);
  for (int i = 0; i < 6; ++i) Submit(i, 4, 20, &sinks[i]);
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(sinks[i].AwaitDone());
    EXPECT_EQ(sinks[i].token_ids(), FakeContinuation(Prompt(i, 4), 20, 60));
  }
}

TEST_F(GenerateSchedulerTest, WithoutMemoryForItAloneARequestEndsAlone) {
  options_.may_hold_kv_bytes = [](int64_t bytes) { return bytes <= 300; };
  Start();
  RecordingSink& large = Sink();
  RecordingSink& small = Sink();
  Submit(1, 4, 20, &large);
  Submit(2, 4, 4, &small);
  ASSERT_TRUE(large.AwaitDone());
  EXPECT_THAT(large.status(),
              StatusIs(StatusCode::kResourceExhausted, HasSubstr("no memory")));
  EXPECT_THAT(large.token_ids(), SizeIs(9));
  ASSERT_TRUE(small.AwaitDone());
  EXPECT_EQ(small.token_ids(), FakeContinuation(Prompt(2, 4), 4, 60));
}

TEST_F(GenerateSchedulerTest, AllEndThoughReadersAreSlowAndTheCacheIsSmall) {
  info_.num_kv_blocks = 26;  // the largest request takes 25
  options_.max_running = 6;
  options_.max_step_tokens = 24;
  options_.stall_after = absl::Milliseconds(3);
  options_.max_stalled = 1000;
  options_.max_pause = absl::Hours(1);
  Start();
  constexpr int kRequests = 60;
  std::deque<RecordingSink>& sinks = Sinks(kRequests);
  const auto prompt_of = [](int i) { return Prompt(i, 1 + i * 7 % 40); };
  const auto new_of = [](int i) { return 1 + i * 11 % 60; };
  for (int i = 0; i < kRequests; ++i) {
    if (i % 3 == 0) sinks[i].set_room(1 + i % 5);
    GenerateParams params = Params(prompt_of(i), new_of(i));
    params.peer = std::string(1, static_cast<char>('a' + i % 7 % 4));
    Submit(std::move(params), &sinks[i]);
  }
  // Slow readers take a few tokens now and then.
  const absl::Time give_up = absl::Now() + absl::Seconds(60);
  for (size_t round = 1; absl::Now() < give_up; ++round) {
    bool all_done = true;
    for (int i = 0; i < kRequests; ++i) {
      all_done &= sinks[i].done();
      if (i % 3 == 0) sinks[i].set_room(1 + i % 5 + round * (i % 9 + 1));
    }
    if (all_done) break;
    clock_.Advance(absl::Milliseconds(2));
    scheduler_->Wake();
    absl::SleepFor(absl::Microseconds(500));
  }
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_TRUE(sinks[i].done()) << i;
    EXPECT_OK(sinks[i].status());
    EXPECT_EQ(sinks[i].token_ids(),
              FakeContinuation(prompt_of(i), new_of(i), 60));
  }
  scheduler_->Drain(absl::InfiniteFuture());
  EXPECT_GT(observer_.preempted(), 0);
  ExpectAllFree();
}

TEST_F(GenerateSchedulerTest, EndsAtAnEndOfSequenceToken) {
  const std::vector<int32_t> plain = FakeContinuation(Prompt(1, 5), 20, 60);
  info_.eos_ids = {61, plain[6]};
  const auto first = std::find(plain.begin(), plain.end(), plain[6]);
  const std::vector<int32_t> wanted(plain.begin(), first);
  Start();
  RecordingSink& sink = Sink();
  Submit(1, 5, 20, &sink);
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_EQ(sink.result().reason, FinishReason::kEos);
  EXPECT_EQ(sink.token_ids(), wanted);
  EXPECT_EQ(sink.result().new_tokens, static_cast<int64_t>(wanted.size()));
  EXPECT_EQ(sink.text(), TextOf(wanted));
}

TEST_F(GenerateSchedulerTest, GivesHeldBackTextAtAnEndOfSequence) {
  const std::vector<int32_t> plain = FakeContinuation(Prompt(1, 5), 20, 60);
  const auto first = std::find(plain.begin(), plain.end(), plain[6]);
  const std::string text = TextOf({plain.begin(), first});
  info_.eos_ids = {plain[6]};
  Start();
  RecordingSink& sink = Sink();
  GenerateParams params = Params(Prompt(1, 5), 20);
  params.stop = {text.substr(text.size() - 2) + "#"};
  Submit(std::move(params), &sink);
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_EQ(sink.result().reason, FinishReason::kEos);
  EXPECT_EQ(sink.text(), text);
}

TEST_F(GenerateSchedulerTest, DrawsTheNthTokenWithTheNthRandomNumber) {
  Start();
  RecordingSink& sink = Sink();
  GenerateParams params = Params(Prompt(1, 5), 30);
  params.sampling.temperature = 1;
  params.sampling.repetition_penalty = 1.2f;
  params.sampling.seed = 7;
  Submit(params, &sink);
  ASSERT_TRUE(sink.AwaitDone());
  Sampler sampler(64, 60);
  std::vector<int32_t> history = params.prompt;
  for (int64_t i = 0; i < 30; ++i) {
    ASSERT_OK_AND_ASSIGN(const SampledToken token,
                         sampler.Sample(FakeLogits(history, 64),
                                        params.sampling, history, i, 0));
    history.push_back(token.id);
  }
  history.erase(history.begin(), history.begin() + 5);
  EXPECT_EQ(sink.token_ids(), history);
}

TEST_F(GenerateSchedulerTest, NeverGeneratesWhatTheModelSuppresses) {
  const std::vector<int32_t> plain = FakeContinuation(Prompt(1, 5), 20, 60);
  info_.suppressed_ids = {plain[0], plain[5]};
  Start();
  RecordingSink& sink = Sink();
  Submit(1, 5, 20, &sink);
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_THAT(sink.token_ids(), SizeIs(20));
  EXPECT_THAT(sink.token_ids(), Not(Contains(AnyOf(plain[0], plain[5]))));
}

TEST_F(GenerateSchedulerTest, EndsBeforeAStopStringThatSpansTokens) {
  const std::vector<int32_t> plain = FakeContinuation(Prompt(4, 5), 20, 60);
  const std::string text = TextOf(plain);
  const std::string stop =
      TextOf({plain.begin() + 5, plain.begin() + 8});  // three tokens
  const std::string before = text.substr(0, text.find(stop));
  Start();
  RecordingSink& sink = Sink();
  GenerateParams params = Params(Prompt(4, 5), 20);
  params.stop = {"not in there", stop};
  Submit(std::move(params), &sink);
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_EQ(sink.result().reason, FinishReason::kStop);
  EXPECT_EQ(sink.text(), before);
  // The tokens of the stop string are told, the rest is never generated.
  EXPECT_EQ(TextOf(sink.token_ids()), before + stop);
}

// Text that is held back because a stop string may follow is not lost.
TEST_F(GenerateSchedulerTest, EndsAtAStopTokenWithoutItsText) {
  const std::vector<int32_t> plain = FakeContinuation(Prompt(4, 5), 20, 60);
  const auto stop = std::find(plain.begin(), plain.end(), plain[6]);
  const std::string before = TextOf({plain.begin(), stop});
  for (const bool is_eos : {false, true}) {
    info_.eos_ids = {61};
    if (is_eos) info_.eos_ids.push_back(*stop);
    Start();
    RecordingSink& sink = Sink();
    GenerateParams params = Params(Prompt(4, 5), 20);
    params.stop = {before.substr(before.size() - 2) + "#", "<|end|>"};
    params.stop_token_ids = {63, *stop};
    params.num_logprobs = 1;
    Submit(std::move(params), &sink);
    ASSERT_TRUE(sink.AwaitDone());
    EXPECT_EQ(sink.result().reason, FinishReason::kStop);
    EXPECT_EQ(sink.text(), before);
    EXPECT_EQ(sink.token_ids(), std::vector<int32_t>(plain.begin(), stop + 1));
    EXPECT_EQ(sink.result().new_tokens, stop + 1 - plain.begin());
    EXPECT_THAT(sink.logprobs(), SizeIs(stop + 1 - plain.begin()));
    Stop();
  }
}

TEST_F(GenerateSchedulerTest, GivesHeldBackTextAtTheEnd) {
  const std::vector<int32_t> plain = FakeContinuation(Prompt(4, 5), 6, 60);
  const std::string text = TextOf(plain);
  Start();
  RecordingSink& sink = Sink();
  GenerateParams params = Params(Prompt(4, 5), 6);
  params.stop = {text.substr(text.size() - 2) + "#"};
  Submit(std::move(params), &sink);
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_EQ(sink.result().reason, FinishReason::kLength);
  EXPECT_EQ(sink.text(), text);
}

TEST_F(GenerateSchedulerTest, TellsLogprobsWithTheBytesOfTokens) {
  Start();
  RecordingSink& sink = Sink();
  GenerateParams params = Params(Prompt(1, 5), 4);
  params.num_logprobs = 3;
  Submit(std::move(params), &sink);
  ASSERT_TRUE(sink.AwaitDone());
  const auto ids = sink.token_ids();
  ASSERT_THAT(sink.logprobs(), SizeIs(4));
  for (size_t i = 0; i < 4; ++i) {
    const TokenLogprobs logprobs = sink.logprobs()[i];
    ASSERT_THAT(logprobs.top, SizeIs(3));
    EXPECT_EQ(logprobs.top[0].id, ids[i]);
    EXPECT_EQ(logprobs.top[0].logprob, logprobs.logprob);
    EXPECT_EQ(logprobs.top[0].token, TextOf({ids[i]}));
    EXPECT_LE(logprobs.top[1].logprob, logprobs.top[0].logprob);
  }
}

TEST_F(GenerateSchedulerTest, MeasuresQueueFirstTokenAndTotal) {
  options_.max_running = 1;
  StartHeld();
  RecordingSink& first = Sink();
  RecordingSink& second = Sink();
  Submit(1, 2, 1, &first);
  engine_->AwaitStep();
  Submit(2, 2, 2, &second);
  clock_.Advance(absl::Seconds(3));
  NextStep();
  clock_.Advance(absl::Seconds(1));
  NextStep();
  clock_.Advance(absl::Seconds(2));
  engine_->Free();
  ASSERT_TRUE(second.AwaitDone());
  EXPECT_EQ(second.result().queued, absl::Seconds(3));
  EXPECT_EQ(second.result().time_to_first_token, absl::Seconds(4));
  EXPECT_EQ(second.result().total, absl::Seconds(6));
}

TEST_F(GenerateSchedulerTest, FinishesOnTheOldVersionAndBeginsOnTheNew) {
  StartHeld();
  std::atomic<bool> destroyed = false;
  engine_->set_on_destroyed([&] { destroyed = true; });
  RecordingSink& before = Sink();
  RecordingSink& before_too = Sink();
  RecordingSink& after = Sink();
  Submit(1, 2, 6, &before);
  engine_->AwaitStep();
  Submit(2, 2, 3, &before_too);
  NextStep();

  EngineInfo info = info_;
  info.model_version = 2;
  info.method = "other";
  auto next = std::make_shared<FakeEngine>(info, kv_, /*salt=*/99);
  scheduler_->SetEngine(next);
  Submit(3, 2, 8, &after);
  // Both versions step in the same round.
  engine_->Finish();
  engine_->AwaitStep();
  EXPECT_THAT(next->steps(), IsEmpty());
  EXPECT_THAT(FirstIds(NextStep()), ElementsAre(1, 2));
  EXPECT_THAT(next->steps(), SizeIs(1));
  EXPECT_FALSE(destroyed);

  engine_->Free();
  engine_ = nullptr;
  ASSERT_TRUE(before.AwaitDone());
  ASSERT_TRUE(after.AwaitDone());
  EXPECT_EQ(before.token_ids(), FakeContinuation(Prompt(1, 2), 6, 60));
  EXPECT_EQ(before.result().model_version, 1);
  EXPECT_EQ(before_too.result().method, "fake");
  EXPECT_EQ(after.token_ids(), FakeContinuation(Prompt(3, 2), 8, 60, 99));
  EXPECT_EQ(after.result().model_version, 2);
  EXPECT_EQ(after.result().method, "other");
  scheduler_->Drain(absl::InfiniteFuture());
  EXPECT_TRUE(destroyed);
}

TEST_F(GenerateSchedulerTest, FreesAnIdleVersionAtOnce) {
  Start();
  std::atomic<bool> destroyed = false;
  engine_->set_on_destroyed([&] { destroyed = true; });
  RecordingSink& sink = Sink();
  Submit(1, 2, 6, &sink);
  ASSERT_TRUE(sink.AwaitDone());
  auto next = std::make_shared<FakeEngine>(info_, kv_, /*salt=*/99);
  engine_ = next;
  // The last sequence may still hold the old one for a moment after its end.
  scheduler_->SetEngine(std::move(next));
  scheduler_->Drain(absl::InfiniteFuture());
  EXPECT_TRUE(destroyed);
}

TEST_F(GenerateSchedulerTest, AnErrorOfAStepEndsOnlyItsSequences) {
  StartHeld();
  RecordingSink& a = Sink();
  RecordingSink& b = Sink();
  RecordingSink& c = Sink();
  Submit(1, 2, 6, &a);
  engine_->AwaitStep();
  Submit(2, 2, 6, &b);
  NextStep();
  auto next = std::make_shared<FakeEngine>(info_, kv_, /*salt=*/99);
  scheduler_->SetEngine(next);
  Submit(3, 2, 6, &c);
  NextStep();
  engine_->Finish(absl::InternalError("the machine is on fire"));
  for (RecordingSink* sink : {&a, &b}) {
    ASSERT_TRUE(sink->AwaitDone());
    EXPECT_THAT(sink->status(),
                StatusIs(StatusCode::kInternal, HasSubstr("on fire")));
  }
  ASSERT_TRUE(c.AwaitDone());
  EXPECT_OK(c.status());
  EXPECT_EQ(c.token_ids(), FakeContinuation(Prompt(3, 2), 6, 60, 99));
  scheduler_->Drain(absl::InfiniteFuture());
  ExpectAllFree();
}

TEST_F(GenerateSchedulerTest, LogitsThatAreNoNumbersEndOneSequenceOnly) {
  Start();
  engine_->set_poisoned(1);
  RecordingSink& bad = Sink();
  RecordingSink& good = Sink();
  Submit(2, 2, 20, &good);
  Submit(1, 2, 20, &bad);
  ASSERT_TRUE(bad.AwaitDone());
  ASSERT_TRUE(good.AwaitDone());
  EXPECT_THAT(bad.status(),
              StatusIs(StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("the model as " + info_.method),
                             HasSubstr("the logits of new token"))));
  EXPECT_OK(good.status());
}

TEST_F(GenerateSchedulerTest, DrainLetsRunningAndQueuedOnesFinish) {
  options_.max_running = 1;
  StartHeld();
  RecordingSink& running = Sink();
  RecordingSink& queued = Sink();
  Submit(1, 2, 3, &running);
  engine_->AwaitStep();
  Submit(2, 2, 3, &queued);
  std::thread drain([&] { scheduler_->Drain(absl::InfiniteFuture()); });
  // Drain may not have begun yet; what is accepted until then finishes too.
  std::deque<RecordingSink>& probes = Sinks(0);
  absl::Status status;
  while (status.ok()) {
    status = scheduler_->Submit(Params(Prompt(4, 1), 1), &probes.emplace_back())
                 .status();
  }
  EXPECT_THAT(status, StatusIs(StatusCode::kUnavailable));
  probes.pop_back();
  engine_->Free();
  drain.join();
  EXPECT_OK(running.status());
  EXPECT_OK(queued.status());
  EXPECT_EQ(queued.token_ids(), FakeContinuation(Prompt(2, 2), 3, 60));
  for (const RecordingSink& probe : probes) EXPECT_OK(probe.status());
  ExpectAllFree();
}

TEST_F(GenerateSchedulerTest, IsNotThereWithoutAThread) {
  auto engine = std::make_shared<FakeEngine>(info_, kv_);
  const NoThreads none;
  EXPECT_THAT(GenerateScheduler::Create(options_, engine, tokenizer_, clock_,
                                        observer_),
              StatusIs(StatusCode::kResourceExhausted, HasSubstr("no thread")));
}

TEST_F(GenerateSchedulerTest, TellsTheCapacityBeforeTheFirstRequest) {
  Start();
  EXPECT_EQ(observer_.last().kv_capacity_bytes,
            info_.num_kv_blocks * info_.kv_block_bytes);
  EXPECT_EQ(observer_.last().running, 0);
}

TEST_F(GenerateSchedulerTest, HoldsNoEngineAfterDrain) {
  Start();
  std::atomic<bool> destroyed = false;
  engine_->set_on_destroyed([&] { destroyed = true; });
  engine_ = nullptr;
  scheduler_->Drain(absl::InfiniteFuture());
  EXPECT_TRUE(destroyed);
  scheduler_->SetEngine(std::make_shared<FakeEngine>(info_, kv_));
  EXPECT_EQ(kv_.use_count(), 1);
}

TEST_F(GenerateSchedulerTest, DrainEndsTheRestAtItsDeadline) {
  options_.max_running = 1;
  options_.stall_after = absl::Hours(1);  // the other one gets no place
  Start();
  RecordingSink& running = Sink();
  RecordingSink& queued = Sink();
  running.set_has_room(false);  // so that it can't end by itself
  Submit(1, 2, 30, &running);
  Submit(2, 2, 3, &queued);
  const absl::Time deadline = clock_.Now() + absl::Seconds(10);
  std::atomic<bool> drained = false;
  bool all_finished = true;
  std::thread drain([&] {
    all_finished = scheduler_->Drain(deadline);
    drained = true;
  });
  scheduler_->Wake();
  EXPECT_FALSE(running.done());
  EXPECT_FALSE(drained);
  clock_.Advance(absl::Seconds(10));
  scheduler_->Wake();
  drain.join();
  for (const RecordingSink* sink : {&running, &queued}) {
    EXPECT_TRUE(sink->done());
    EXPECT_THAT(sink->status(),
                StatusIs(StatusCode::kUnavailable, HasSubstr("shutting down")));
  }
  ExpectAllFree();
  EXPECT_FALSE(all_finished);
  scheduler_->Drain(absl::InfiniteFuture());  // again: nothing to do
}

TEST_F(GenerateSchedulerTest, OfSeveralDrainsTheEarliestDeadlineCounts) {
  Start();
  RecordingSink& sink = Sink();
  sink.set_has_room(false);
  Submit(1, 2, 30, &sink);
  bool patient = true;
  std::thread drain(
      [&] { patient = scheduler_->Drain(absl::InfiniteFuture()); });
  EXPECT_FALSE(scheduler_->Drain(clock_.Now()));
  drain.join();
  EXPECT_FALSE(patient);
  EXPECT_THAT(sink.status(), StatusIs(StatusCode::kUnavailable));
}

TEST_F(GenerateSchedulerTest, DrainSaysWhenAllHaveFinished) {
  Start();
  RecordingSink& sink = Sink();
  Submit(1, 2, 3, &sink);
  EXPECT_TRUE(scheduler_->Drain(absl::InfiniteFuture()));
  EXPECT_OK(sink.status());
  EXPECT_TRUE(scheduler_->Drain(clock_.Now()));
}

TEST_F(GenerateSchedulerTest, TheDestructorEndsWhatRuns) {
  options_.max_running = 1;
  Start();
  RecordingSink& running = Sink();
  RecordingSink& queued = Sink();
  running.set_has_room(false);
  Submit(1, 2, 30, &running);
  Submit(2, 2, 3, &queued);
  scheduler_ = nullptr;
  EXPECT_THAT(running.status(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(queued.status(), StatusIs(StatusCode::kUnavailable));
}

TEST_F(GenerateSchedulerTest, SurvivesManyThreadsAtOnce) {
  info_.num_kv_blocks = 60;
  options_.max_queued = 1000;
  options_.max_running = 8;
  options_.max_step_tokens = 20;
  Start();
  constexpr int kThreads = 4;
  constexpr int kRequests = 40;
  std::vector<std::deque<RecordingSink>*> sinks;
  for (int t = 0; t < kThreads; ++t) sinks.push_back(&Sinks(kRequests));
  std::vector<std::thread> threads;
  std::atomic<bool> stop = false;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRequests; ++i) {
        GenerateParams params = Params(Prompt(t, 1 + i % 30), 1 + i % 20);
        if (i % 7 == 0) {
          params.deadline = clock_.Now() + absl::Milliseconds(i);
        }
        const auto id = scheduler_->Submit(std::move(params), &(*sinks[t])[i]);
        ASSERT_OK(id);
        if (i % 5 == 0) scheduler_->Cancel(*id, absl::CancelledError("gone"));
      }
    });
  }
  std::thread swapper([&] {
    while (!stop) {
      scheduler_->SetEngine(std::make_shared<FakeEngine>(info_, kv_));
      scheduler_->Wake();
      (void)scheduler_->stats();
      clock_.Advance(absl::Milliseconds(1));
      absl::SleepFor(
          absl::Milliseconds(1));  // or it would have the lock always
    }
  });
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < kThreads; ++t) {
    for (int i = 0; i < kRequests; ++i) {
      ASSERT_TRUE((*sinks[t])[i].AwaitDone());
      const absl::Status status = (*sinks[t])[i].status();
      if (i % 7 != 0 && i % 5 != 0) {
        EXPECT_OK(status);
      }
      if (status.ok()) {
        EXPECT_EQ((*sinks[t])[i].token_ids(),
                  FakeContinuation(Prompt(t, 1 + i % 30), 1 + i % 20, 60));
      }
    }
  }
  stop = true;
  swapper.join();
  scheduler_->Drain(absl::InfiniteFuture());
  ExpectAllFree();
}

// With a prefix cache of all blocks, of 4 tokens each.
class PrefixCacheSchedulerTest : public GenerateSchedulerTest {
 protected:
  PrefixCacheSchedulerTest() { options_.prefix_cache.max_bytes = 1 << 20; }

  RecordingSink& Begin(const std::vector<int32_t>& prompt, int64_t max_new,
                       const std::string& peer = "p") {
    RecordingSink& sink = Sink();
    GenerateParams params = Params(prompt, max_new);
    params.peer = peer;
    last_id_ = Submit(std::move(params), &sink);
    return sink;
  }
  // The prompt tokens that were found, of a request that has its answer.
  int64_t Found(const std::vector<int32_t>& prompt, int64_t max_new,
                const std::string& peer = "p") {
    RecordingSink& sink = Begin(prompt, max_new, peer);
    EXPECT_TRUE(sink.AwaitDone());
    EXPECT_OK(sink.status());
    EXPECT_EQ(sink.token_ids(), FakeContinuation(prompt, max_new, 60, salt_));
    EXPECT_EQ(sink.result().prompt_tokens, static_cast<int64_t>(prompt.size()));
    EXPECT_EQ(scheduler_->stats().kv_used_bytes, 0);
    return sink.result().cached_tokens;
  }
  int64_t ComputedTokens() const {
    int64_t sum = 0;
    for (const SeenStep& step : engine_->steps()) {
      for (const SeenSlice& slice : step) sum += slice.num_tokens;
    }
    return sum;
  }
  int64_t KeptBlocks() const {
    return scheduler_->stats().kv_cached_bytes / info_.kv_block_bytes;
  }

  uint64_t salt_ = 0;
  GenerateScheduler::RequestId last_id_ = 0;
};

TEST_F(PrefixCacheSchedulerTest, ComputesOnlyWhatIsNew) {
  Start();
  EXPECT_EQ(Found(Prompt(3, 11), 2), 0);
  EXPECT_EQ(KeptBlocks(), 3);
  EXPECT_EQ(Found(Prompt(3, 11), 2), 8);
  const SeenSlice second = engine_->steps()[2][0];
  EXPECT_EQ(second.position, 8);
  EXPECT_EQ(second.num_tokens, 3);
  EXPECT_EQ(observer_.prompt_tokens(), 11 + 3);
  EXPECT_EQ(observer_.started_tokens(), 22);
  EXPECT_EQ(observer_.found_tokens(), 8);
  EXPECT_EQ(observer_.evicted(), 0);
}

TEST_F(PrefixCacheSchedulerTest, APromptsLastTokenIsAlwaysComputed) {
  Start();
  EXPECT_EQ(Found(Prompt(3, 8), 1), 0);
  EXPECT_EQ(Found(Prompt(3, 8), 1), 4);
  EXPECT_EQ(Found(Prompt(3, 9), 1), 8);
  EXPECT_EQ(Found(Prompt(3, 1), 1), 0);
}

TEST_F(PrefixCacheSchedulerTest, FindsFullBlocksAlone) {
  Start();
  EXPECT_EQ(Found(Prompt(3, 12), 1), 0);
  std::vector<int32_t> prompt = Prompt(3, 12);
  prompt[6] = 59;
  EXPECT_EQ(Found(prompt, 1), 4);
  prompt[0] = 59;
  EXPECT_EQ(Found(prompt, 1), 0);
}

TEST_F(PrefixCacheSchedulerTest, AnAnswerIsFoundInTheNextPrompt) {
  Start();
  std::vector<int32_t> prompt = Prompt(3, 5);
  EXPECT_EQ(Found(prompt, 10), 0);
  for (const int32_t id : FakeContinuation(prompt, 10, 60)) {
    prompt.push_back(id);
  }
  EXPECT_EQ(Found(prompt, 1), 12) << "the last new token was never computed";
}

TEST_F(PrefixCacheSchedulerTest, PeersShareNothingUnlessTheyAreToShareAll) {
  Start();
  EXPECT_EQ(Found(Prompt(3, 9), 1, "p"), 0);
  EXPECT_EQ(Found(Prompt(3, 9), 1, "q"), 0);
  EXPECT_EQ(Found(Prompt(3, 9), 1, "q"), 8);
  EXPECT_EQ(Found(Prompt(3, 9), 1, ""), 0);
  EXPECT_EQ(Found(Prompt(3, 9), 1, ""), 0) << "nobody knows whose it is";
  Stop();
  options_.prefix_cache.all_peers = true;
  Start();
  EXPECT_EQ(Found(Prompt(3, 9), 1, "p"), 0);
  EXPECT_EQ(Found(Prompt(3, 9), 1, "q"), 8);
  EXPECT_EQ(Found(Prompt(3, 9), 1, ""), 8);
}

TEST_F(PrefixCacheSchedulerTest, ThereIsNoneOfZeroBytes) {
  options_.prefix_cache.max_bytes = 0;
  Start();
  EXPECT_EQ(Found(Prompt(3, 9), 1), 0);
  EXPECT_EQ(Found(Prompt(3, 9), 1), 0);
  EXPECT_EQ(KeptBlocks(), 0);
  EXPECT_EQ(observer_.started_tokens(), 0);
}

TEST_F(PrefixCacheSchedulerTest, PromptsAtTheSameTimeEndUpInTheSameBlocks) {
  StartHeld();
  RecordingSink& other = Begin(Prompt(9, 1), 4);
  engine_->AwaitStep();
  RecordingSink& first = Begin(Prompt(3, 11), 2);
  RecordingSink& second = Begin(Prompt(3, 11), 2);
  SeenStep step = NextStep();
  ASSERT_THAT(step, SizeIs(3));
  EXPECT_NE(step[1].blocks[0], step[2].blocks[0]);
  step = NextStep();
  ASSERT_THAT(step, SizeIs(3));
  EXPECT_EQ(step[1].blocks[0], step[2].blocks[0]);
  EXPECT_EQ(step[1].blocks[1], step[2].blocks[1]);
  EXPECT_NE(step[1].blocks[2], step[2].blocks[2]) << "it is not full";
  engine_->Free();
  for (RecordingSink* sink : {&first, &second}) {
    ASSERT_TRUE(sink->AwaitDone());
    EXPECT_EQ(sink->token_ids(), FakeContinuation(Prompt(3, 11), 2, 60));
    EXPECT_EQ(sink->result().cached_tokens, 0);
  }
  ASSERT_TRUE(other.AwaitDone());
  ExpectAllFree();
  EXPECT_EQ(KeptBlocks(), 4) << "three of them, one of the other";
}

TEST_F(PrefixCacheSchedulerTest, OfAnEndedPromptTheComputedBlocksAreFound) {
  options_.max_running = 4;
  options_.max_step_tokens = 6;
  StartHeld();
  RecordingSink& cancelled = Begin(Prompt(3, 20), 1);
  engine_->AwaitStep();
  EXPECT_EQ(NextStep()[0].position, 6);
  scheduler_->Cancel(last_id_, absl::CancelledError("gone"));
  RecordingSink& failed = Begin(Prompt(9, 20), 1);
  EXPECT_EQ(NextStep()[0].first_id, 9) << "12 tokens are computed";
  ASSERT_TRUE(cancelled.AwaitDone());
  engine_->Finish(absl::InternalError("broken"));
  ASSERT_TRUE(failed.AwaitDone());
  engine_->Free();
  EXPECT_EQ(Found(Prompt(9, 20), 1), 0) << "nobody knows what a step left";
  EXPECT_EQ(Found(Prompt(3, 20), 1), 12);
}

TEST_F(PrefixCacheSchedulerTest, WhoLostItsBlocksFindsThemAgain) {
  info_.num_kv_blocks = 8;
  std::vector<int64_t> computed;
  for (const int64_t max_bytes : {0, 1 << 20}) {
    options_.prefix_cache.max_bytes = max_bytes;
    const int64_t preempted = observer_.preempted();
    Start();
    engine_->Hold();
    RecordingSink& eldest = Begin(Prompt(9, 4), 18);
    engine_->AwaitStep();
    RecordingSink& young = Begin(Prompt(3, 8), 12, "q");
    engine_->Free();
    ASSERT_TRUE(eldest.AwaitDone());
    ASSERT_TRUE(young.AwaitDone());
    EXPECT_EQ(eldest.token_ids(), FakeContinuation(Prompt(9, 4), 18, 60));
    EXPECT_EQ(young.token_ids(), FakeContinuation(Prompt(3, 8), 12, 60));
    EXPECT_EQ(young.result().cached_tokens, 0)
        << "it had no tokens from others";
    EXPECT_GT(observer_.preempted(), preempted);
    computed.push_back(ComputedTokens());
    Stop();
  }
  EXPECT_LT(computed[1], computed[0]);
}

TEST_F(PrefixCacheSchedulerTest, KeptBlocksGoBeforeAnyoneIsPushedOut) {
  info_.num_kv_blocks = 8;
  StartHeld();
  engine_->Free();
  EXPECT_EQ(Found(Prompt(3, 25), 1), 0);
  EXPECT_EQ(KeptBlocks(), 6);
  RecordingSink& first = Begin(Prompt(9, 13), 3);
  RecordingSink& second = Begin(Prompt(17, 13), 3);
  ASSERT_TRUE(first.AwaitDone());
  ASSERT_TRUE(second.AwaitDone());
  EXPECT_OK(first.status());
  EXPECT_OK(second.status());
  EXPECT_EQ(observer_.preempted(), 0);
  EXPECT_GT(observer_.evicted(), 0);
}

TEST_F(PrefixCacheSchedulerTest, KeepsNoMoreThanItMay) {
  options_.prefix_cache.max_bytes = 350;  // 3 blocks and a half
  Start();
  EXPECT_EQ(Found(Prompt(3, 20), 1), 0);
  EXPECT_EQ(KeptBlocks(), 3);
  EXPECT_EQ(Found(Prompt(3, 20), 1), 12);
  EXPECT_THAT(engine_->released(), Not(IsEmpty()));
}

TEST_F(PrefixCacheSchedulerTest, AnotherVersionFindsNothingOfTheOld) {
  StartHeld();
  RecordingSink& old = Begin(Prompt(9, 9), 3);
  engine_->AwaitStep();
  engine_->Free();
  ASSERT_TRUE(old.AwaitDone());
  EXPECT_EQ(Found(Prompt(3, 9), 1), 0);
  EXPECT_EQ(KeptBlocks(), 4);
  engine_->Hold();
  RecordingSink& late = Begin(Prompt(3, 9), 3);
  engine_->AwaitStep();

  EngineInfo info = info_;
  info.model_version = 2;
  salt_ = 7;
  const auto next = std::make_shared<FakeEngine>(info, kv_, salt_);
  scheduler_->SetEngine(next);
  RecordingSink& fresh = Begin(Prompt(3, 9), 1);
  engine_->Free();
  ASSERT_TRUE(fresh.AwaitDone());
  EXPECT_EQ(fresh.result().cached_tokens, 0);
  EXPECT_EQ(fresh.token_ids(), FakeContinuation(Prompt(3, 9), 1, 60, salt_));
  ASSERT_TRUE(late.AwaitDone());
  EXPECT_EQ(late.result().cached_tokens, 8);
  EXPECT_EQ(late.token_ids(), FakeContinuation(Prompt(3, 9), 3, 60, 0));
  EXPECT_EQ(KeptBlocks(), 2) << "the new version's";
  EXPECT_EQ(observer_.evicted(), 0);
  EXPECT_EQ(Found(Prompt(3, 9), 1), 8);
}

TEST_F(PrefixCacheSchedulerTest, ASwapGivesTheOldVersionsBlocksBackAtOnce) {
  Start();
  EXPECT_EQ(Found(Prompt(3, 9), 1), 0);
  EngineInfo info = info_;
  info.model_version = 2;
  const auto next = std::make_shared<FakeEngine>(info, kv_);
  scheduler_->SetEngine(next);
  const absl::Time patience = absl::Now() + absl::Seconds(30);
  while (next->released().empty() && absl::Now() < patience) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(KeptBlocks(), 0);
  EXPECT_THAT(next->released(), Contains(engine_->steps()[0][0].blocks[0]));
}

TEST_F(PrefixCacheSchedulerTest, TellsWhatItKeepsAndGivesItUp) {
  std::atomic<int64_t> told = 0;
  options_.prefix_cache.on_bytes = [&](int64_t more) { told += more; };
  Start();
  EXPECT_EQ(Found(Prompt(3, 13), 1), 0);
  EXPECT_EQ(told, 300);
  EXPECT_EQ(scheduler_->stats().kv_cached_bytes, 300);
  int64_t released = 0;
  const auto release = [&](absl::Span<const int32_t> blocks) {
    released = static_cast<int64_t>(blocks.size());
  };
  EXPECT_EQ(scheduler_->GiveUpCached(101, release), 200);
  EXPECT_GE(released, 2);
  EXPECT_EQ(scheduler_->stats().kv_cached_bytes, 100);
  EXPECT_EQ(scheduler_->GiveUpCached(500, release), 100);
  EXPECT_EQ(scheduler_->GiveUpCached(500, release), 0);
  EXPECT_EQ(told, 300) << "whoever asks counts them";
  EXPECT_EQ(Found(Prompt(3, 13), 1), 0);
  EXPECT_EQ(observer_.evicted(), 3);
}

TEST_F(PrefixCacheSchedulerTest, AnswersAreTheSameInACrowd) {
  info_.num_kv_blocks = 30;
  options_.prefix_cache.max_bytes = 1'500;
  options_.max_running = 6;
  options_.max_step_tokens = 24;
  Start();
  std::atomic<bool> over = false;
  std::thread others([&] {
    while (!over) {
      scheduler_->GiveUpCached(
          200, [&](absl::Span<const int32_t> blocks) { kv_->Release(blocks); });
      absl::SleepFor(absl::Milliseconds(1));
    }
  });
  constexpr size_t kRequests = 400;
  std::deque<RecordingSink>& sinks = Sinks(kRequests);
  std::vector<std::vector<int32_t>> prompts;
  uint32_t random = 1;
  const auto below = [&](uint32_t bound) {
    random = random * 1'664'525 + 1'013'904'223;
    return static_cast<int32_t>((random >> 8) % bound);
  };
  for (RecordingSink& sink : sinks) {
    std::vector<int32_t> prompt = Prompt(below(3), 5 + below(40));
    if (below(2) == 0) prompt[below(static_cast<uint32_t>(prompt.size()))] = 1;
    prompts.push_back(prompt);
    GenerateParams params = Params(prompt, 1 + below(12));
    params.peer = below(2) == 0 ? "p" : "q";
    const auto id = Submit(std::move(params), &sink);
    if (below(8) == 0) scheduler_->Cancel(id, absl::CancelledError("gone"));
    if (below(16) == 0) absl::SleepFor(absl::Milliseconds(2));
  }
  for (size_t i = 0; i < kRequests; ++i) {
    ASSERT_TRUE(sinks[i].AwaitDone());
    const std::vector<int32_t> ids = sinks[i].token_ids();
    EXPECT_EQ(ids, FakeContinuation(prompts[i],
                                    static_cast<int64_t>(ids.size()), 60));
  }
  over = true;
  others.join();
  ExpectAllFree();
  EXPECT_GT(observer_.found_tokens(), 0);
  EXPECT_LE(KeptBlocks(), 15);
}

}  // namespace
}  // namespace ounce::server
