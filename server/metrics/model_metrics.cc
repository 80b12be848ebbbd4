#include "server/metrics/model_metrics.h"

#include <map>
#include <string_view>
#include <utility>

#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;

constexpr const char* kOutcomes[] = {
    "eos",         "length",   "stop", "cancelled", "deadline_exceeded",
    "unavailable", "rejected", "error"};

const char* Outcome(const absl::Status& status, FinishReason reason) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      switch (reason) {
        case FinishReason::kEos:
          return "eos";
        case FinishReason::kLength:
          return "length";
        case FinishReason::kStop:
          return "stop";
      }
      return "error";
    case absl::StatusCode::kCancelled:
      return "cancelled";
    case absl::StatusCode::kDeadlineExceeded:
      return "deadline_exceeded";
    case absl::StatusCode::kUnavailable:
      return "unavailable";
    default:
      return RetryAfter(status).has_value() ? "rejected" : "error";
  }
}

constexpr const char* kDetectOutcomes[] = {
    "done",        "cancelled", "deadline_exceeded",
    "unavailable", "rejected",  "error"};

const char* DetectOutcome(const absl::Status& status) {
  return status.ok() ? "done" : Outcome(status, FinishReason::kEos);
}

// The counters of one metric of a model by outcome, all of them there from the
// start.
class Outcomes {
 public:
  template <typename Key, size_t n>
  Outcomes(Series& series, Key key, const std::string& model,
           const char* const (&outcomes)[n]) {
    for (const char* outcome : outcomes) {
      counters_[outcome] = series.Get(key, {model, outcome});
    }
  }
  void Count(const char* outcome) { counters_.at(outcome)->Increment(); }

 private:
  std::map<std::string_view, std::shared_ptr<Counter>> counters_;
};

// One model's scheduler.
class SchedulerMetrics final : public SchedulerObserver {
 public:
  SchedulerMetrics(Series& series, const std::string& model)
      : queued_(series.Get(metric::kQueued, {model})),
        running_(series.Get(metric::kRunning, {model})),
        kv_capacity_(series.Get(metric::kKvCapacityBytes, {model})),
        kv_used_(series.Get(metric::kKvUsedBytes, {model})),
        prompt_tokens_(series.Get(metric::kPromptTokens, {model})),
        generated_tokens_(series.Get(metric::kGeneratedTokens, {model})),
        step_tokens_(series.Get(metric::kStepTokens, {model})),
        time_to_first_token_(series.Get(metric::kTimeToFirstToken, {model})),
        time_per_output_token_(
            series.Get(metric::kTimePerOutputToken, {model})),
        duration_(series.Get(metric::kRequestDuration, {model})),
        queue_(series.Get(metric::kQueueDuration, {model})),
        preemptions_(series.Get(metric::kPreemptions, {model})),
        prefix_queries_(series.Get(metric::kPrefixCacheQueries, {model})),
        prefix_hits_(series.Get(metric::kPrefixCacheHits, {model})),
        prefix_evictions_(series.Get(metric::kPrefixCacheEvictions, {model})),
        outcomes_(series, metric::kRequests, model, kOutcomes) {}

  void OnFirstToken(absl::Duration time_to_first_token) override {
    time_to_first_token_->Observe(Seconds(time_to_first_token));
  }

  void OnTokens(int64_t prompt_tokens, int64_t new_tokens) override {
    prompt_tokens_->Increment(static_cast<double>(prompt_tokens));
    generated_tokens_->Increment(static_cast<double>(new_tokens));
    step_tokens_->Observe(static_cast<double>(prompt_tokens + new_tokens));
  }

  void OnDone(const absl::Status& status, FinishReason reason,
              const GenerateResult& result) override {
    outcomes_.Count(Outcome(status, reason));
    if (!status.ok()) return;
    duration_->Observe(Seconds(result.total));
    queue_->Observe(Seconds(result.queued));
    if (result.new_tokens > 1) {
      time_per_output_token_->Observe(
          Seconds(result.total - result.time_to_first_token) /
          static_cast<double>(result.new_tokens - 1));
    }
  }

  void OnPrefixCache(int64_t prompt_tokens, int64_t found_tokens,
                     int64_t evicted_blocks) override {
    prefix_queries_->Increment(static_cast<double>(prompt_tokens));
    prefix_hits_->Increment(static_cast<double>(found_tokens));
    prefix_evictions_->Increment(static_cast<double>(evicted_blocks));
  }

  void OnPreempted(int64_t sequences) override {
    preemptions_->Increment(static_cast<double>(sequences));
  }

  void OnStats(const SchedulerStats& stats) override {
    queued_->Set(static_cast<double>(stats.queued));
    running_->Set(static_cast<double>(stats.running));
    kv_capacity_->Set(static_cast<double>(stats.kv_capacity_bytes));
    kv_used_->Set(static_cast<double>(stats.kv_used_bytes));
  }

 private:
  const std::shared_ptr<Gauge> queued_;
  const std::shared_ptr<Gauge> running_;
  const std::shared_ptr<Gauge> kv_capacity_;
  const std::shared_ptr<Gauge> kv_used_;
  const std::shared_ptr<Counter> prompt_tokens_;
  const std::shared_ptr<Counter> generated_tokens_;
  const std::shared_ptr<Histogram> step_tokens_;
  const std::shared_ptr<Histogram> time_to_first_token_;
  const std::shared_ptr<Histogram> time_per_output_token_;
  const std::shared_ptr<Histogram> duration_;
  const std::shared_ptr<Histogram> queue_;
  const std::shared_ptr<Counter> preemptions_;
  const std::shared_ptr<Counter> prefix_queries_;
  const std::shared_ptr<Counter> prefix_hits_;
  const std::shared_ptr<Counter> prefix_evictions_;
  Outcomes outcomes_;
};

// One detector's scheduler.
class DetectMetrics final : public DetectObserver {
 public:
  DetectMetrics(Series& series, const std::string& model)
      : queued_(series.Get(metric::kQueued, {model})),
        running_(series.Get(metric::kRunning, {model})),
        duration_(series.Get(metric::kDetectDuration, {model})),
        queue_(series.Get(metric::kDetectQueueDuration, {model})),
        decode_(series.Get(metric::kDetectDecodeDuration, {model})),
        in_model_(series.Get(metric::kDetectModelDuration, {model})),
        batch_pictures_(series.Get(metric::kDetectBatchPictures, {model})),
        outcomes_(series, metric::kDetectRequests, model, kDetectOutcomes) {}

  void OnBatch(int64_t pictures, absl::Duration in_model) override {
    batch_pictures_->Observe(static_cast<double>(pictures));
    in_model_->Observe(Seconds(in_model));
  }

  void OnDone(const absl::Status& status, const DetectResult& result) override {
    outcomes_.Count(DetectOutcome(status));
    if (!status.ok()) return;
    duration_->Observe(Seconds(result.total));
    queue_->Observe(Seconds(result.queued));
    decode_->Observe(Seconds(result.decode));
  }

  void OnStats(const DetectStats& stats) override {
    queued_->Set(static_cast<double>(stats.queued));
    running_->Set(static_cast<double>(stats.running));
  }

 private:
  const std::shared_ptr<Gauge> queued_;
  const std::shared_ptr<Gauge> running_;
  const std::shared_ptr<Histogram> duration_;
  const std::shared_ptr<Histogram> queue_;
  const std::shared_ptr<Histogram> decode_;
  const std::shared_ptr<Histogram> in_model_;
  const std::shared_ptr<Histogram> batch_pictures_;
  Outcomes outcomes_;
};

}  // namespace

std::unique_ptr<SchedulerObserver> MakeSchedulerMetrics(
    Series& series, const std::string& model) {
  return std::make_unique<SchedulerMetrics>(series, model);
}

std::unique_ptr<DetectObserver> MakeDetectMetrics(Series& series,
                                                  const std::string& model) {
  return std::make_unique<DetectMetrics>(series, model);
}

const char* RejectedOutcome(const absl::Status& why) {
  return absl::IsCancelled(why)          ? "cancelled"
         : absl::IsDeadlineExceeded(why) ? "deadline_exceeded"
                                         : "rejected";
}

}  // namespace ounce::server
