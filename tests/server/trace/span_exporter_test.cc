#include "server/trace/span_exporter.h"

#include <atomic>
#include <deque>
#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::testing::ElementsAre;

// Answers as it was told, then 200; keeps what was posted.
class FakePoster final : public HttpPoster {
 public:
  absl::StatusOr<HttpAnswer> Post(const std::string& body) override {
    MutexLock lock(&mu_);
    bodies_.push_back(body);
    changed_.SignalAll();
    while (hangs_ && Clock::Real().Now() < end_) {
      changed_.WaitFor(&mu_, end_ - Clock::Real().Now());
    }
    if (hangs_) return absl::UnavailableError("no answer");
    if (answers_.empty()) return HttpAnswer();
    const absl::StatusOr<HttpAnswer> answer = answers_.front();
    answers_.pop_front();
    return answer;
  }
  void EndBy(absl::Time deadline) override {
    MutexLock lock(&mu_);
    end_ = deadline;
    changed_.SignalAll();
  }

  void Hang() {
    MutexLock lock(&mu_);
    hangs_ = true;
  }
  void Expect(std::deque<absl::StatusOr<HttpAnswer>> answers) {
    MutexLock lock(&mu_);
    answers_ = std::move(answers);
  }
  std::vector<std::string> WaitForBodies(size_t count) {
    MutexLock lock(&mu_);
    while (bodies_.size() < count) changed_.Wait(&mu_);
    return bodies_;
  }
  size_t num_bodies() {
    MutexLock lock(&mu_);
    return bodies_.size();
  }

 private:
  Mutex mu_;
  CondVar changed_;
  bool hangs_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time end_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  std::deque<absl::StatusOr<HttpAnswer>> answers_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> bodies_ ABSL_GUARDED_BY(mu_);
};

class SpanExporterTest : public ::testing::Test {
 protected:
  // Pauses of a millisecond.
  static SpanExporter::Options Quick() {
    return {.draw = [] { return uint64_t{0}; },
            .delay = absl::Milliseconds(1),
            .first_pause = absl::Milliseconds(1),
            .longest_pause = absl::Milliseconds(1)};
  }
  void Start(SpanExporter::Options options) {
    auto poster = std::make_unique<FakePoster>();
    poster_ = poster.get();
    auto exporter = SpanExporter::Start(std::move(options), std::move(poster),
                                        Clock::Real());
    ASSERT_OK(exporter.status());
    exporter_ = *std::move(exporter);
  }

  // With a phase: two spans.
  static Work MakeWork(const std::string& name) {
    Work work;
    work.context = {.trace = {1, 1}, .span = 1, .sampled = true};
    work.name = name;
    work.phases = {{"queue", absl::Time(), absl::Time()}};
    return work;
  }

  static std::vector<std::string> NamesIn(const std::string& body) {
    const auto json = nlohmann::json::parse(body);
    std::vector<std::string> names;
    for (const auto& span :
         json["resourceSpans"][0]["scopeSpans"][0]["spans"]) {
      names.push_back(span["name"]);
    }
    return names;
  }

  // Once all of these spans are sent or lost.
  SpanExporter::Stats WaitForStats(int64_t spans) {
    while (true) {
      const SpanExporter::Stats stats = exporter_->stats();
      if (stats.sent + stats.refused + stats.unreachable + stats.queue_full >=
          spans) {
        return stats;
      }
      absl::SleepFor(absl::Milliseconds(1));
    }
  }

  FakePoster* poster_ = nullptr;  // exporter_'s
  std::unique_ptr<SpanExporter> exporter_;
};

TEST_F(SpanExporterTest, AFullBatchDoesNotWait) {
  SpanExporter::Options options = Quick();
  options.delay = absl::Hours(1);
  options.batch = 4;
  Start(options);
  for (const char* name : {"a", "b", "c"}) exporter_->Add(MakeWork(name));
  EXPECT_THAT(NamesIn(poster_->WaitForBodies(1)[0]),
              ElementsAre("a", "queue", "b", "queue"));
  exporter_->Stop(absl::InfiniteFuture());
  EXPECT_THAT(NamesIn(poster_->WaitForBodies(2)[1]), ElementsAre("c", "queue"));
  EXPECT_EQ(exporter_->stats().sent, 6);
}

TEST_F(SpanExporterTest, WhatACollectorCannotTakeNowIsSentAgainAsItWas) {
  Start(Quick());
  poster_->Expect({absl::UnavailableError("connection refused"),
                   HttpAnswer{.code = 503}, HttpAnswer{.code = 429},
                   HttpAnswer{.code = 502}, HttpAnswer{.code = 504},
                   HttpAnswer{.code = 202}});
  exporter_->Add(MakeWork("a"));
  const SpanExporter::Stats stats = WaitForStats(2);
  EXPECT_EQ(stats.sent, 2);
  const std::vector<std::string> bodies = poster_->WaitForBodies(6);
  EXPECT_EQ(bodies.size(), 6);
  for (const std::string& body : bodies) EXPECT_EQ(body, bodies[0]);
}

TEST_F(SpanExporterTest, WaitsForAsLongAsTheCollectorAsks) {
  SpanExporter::Options options = Quick();
  options.longest_pause = absl::Milliseconds(80);
  Start(options);
  poster_->Expect(
      {HttpAnswer{.code = 503, .retry_after = absl::Milliseconds(80)},
       HttpAnswer{.code = 503, .retry_after = absl::Hours(1)}});
  const absl::Time start = Clock::Real().Now();
  exporter_->Add(MakeWork("a"));
  EXPECT_EQ(WaitForStats(2).sent, 2);
  EXPECT_GE(Clock::Real().Now() - start, absl::Milliseconds(160));
}

TEST_F(SpanExporterTest, NoPauseIsLongerThanTheLongest) {
  SpanExporter::Options options = Quick();
  options.draw = [] { return ~uint64_t{0}; };
  options.first_pause = options.longest_pause = absl::Hours(1);
  options.patience = absl::Minutes(70);
  Start(options);
  poster_->Expect({HttpAnswer{.code = 503}});
  exporter_->Add(MakeWork("a"));
  (void)poster_->WaitForBodies(1);
  exporter_->Stop(absl::InfiniteFuture());  // instead of the pause
  EXPECT_EQ(exporter_->stats().sent, 2);
}

TEST_F(SpanExporterTest, CountsWhatTheCollectorRefuses) {
  Start(Quick());
  poster_->Expect({HttpAnswer{.code = 400}});
  exporter_->Add(MakeWork("a"));
  EXPECT_EQ(WaitForStats(2).refused, 2);
  EXPECT_EQ(poster_->num_bodies(), 1);
  poster_->Expect({HttpAnswer{
      .code = 200, .body = R"({"partialSuccess":{"rejectedSpans":"1"}})"}});
  exporter_->Add(MakeWork("b"));
  const SpanExporter::Stats stats = WaitForStats(4);
  EXPECT_EQ(stats.sent, 1);
  EXPECT_EQ(stats.refused, 3);
}

TEST_F(SpanExporterTest, GivesUpABatchThatNobodyTakesAndGoesOn) {
  SpanExporter::Options options = Quick();
  options.patience = absl::Milliseconds(20);
  Start(options);
  poster_->Expect(std::deque<absl::StatusOr<HttpAnswer>>(
      50, absl::UnavailableError("connection refused")));
  exporter_->Add(MakeWork("a"));
  EXPECT_EQ(WaitForStats(2).unreachable, 2);
  poster_->Expect({});
  exporter_->Add(MakeWork("b"));
  EXPECT_EQ(WaitForStats(4).sent, 2);
}

TEST_F(SpanExporterTest, AQueueThatIsFullTakesNoMore) {
  SpanExporter::Options options = Quick();
  options.max_queued = 6;
  Start(options);
  poster_->Hang();
  exporter_->Add(MakeWork("a"));
  (void)poster_->WaitForBodies(1);
  for (int i = 0; i < 5; ++i) exporter_->Add(MakeWork("b"));
  EXPECT_EQ(exporter_->stats().queue_full, 4);
}

TEST_F(SpanExporterTest, AStopSendsWhatIsThereTogether) {
  SpanExporter::Options options = Quick();
  options.delay = absl::Hours(1);
  Start(options);
  exporter_->Add(MakeWork("a"));
  exporter_->Add(MakeWork("b"));
  exporter_->Stop(absl::InfiniteFuture());
  EXPECT_THAT(NamesIn(poster_->WaitForBodies(1)[0]),
              ElementsAre("a", "queue", "b", "queue"));
  EXPECT_EQ(exporter_->stats().sent, 4);
  exporter_->Add(MakeWork("late"));
  EXPECT_EQ(exporter_->stats().queue_full, 2);
}

TEST_F(SpanExporterTest, AStopTriesOnceMoreAndDoesNotWaitOutPauses) {
  SpanExporter::Options options = Quick();
  options.first_pause = options.longest_pause = absl::Hours(1);
  options.patience = absl::InfiniteDuration();
  Start(options);
  poster_->Expect({HttpAnswer{.code = 503}});
  exporter_->Add(MakeWork("a"));
  (void)poster_->WaitForBodies(1);
  exporter_->Stop(absl::InfiniteFuture());
  EXPECT_EQ(exporter_->stats().sent, 2);
}

TEST_F(SpanExporterTest, AStopEndsByItsDeadlineWhateverTheCollectorDoes) {
  Start(Quick());
  poster_->Hang();
  exporter_->Add(MakeWork("a"));
  (void)poster_->WaitForBodies(1);
  exporter_->Add(MakeWork("b"));
  const absl::Time start = Clock::Real().Now();
  exporter_->Stop(start + absl::Milliseconds(50));
  EXPECT_GE(Clock::Real().Now() - start, absl::Milliseconds(50));
  EXPECT_EQ(exporter_->stats().unreachable, 4);
}

}  // namespace
}  // namespace ounce::server
