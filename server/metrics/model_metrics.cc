#include "server/metrics/model_metrics.h"

#include <map>
#include <string_view>
#include <utility>

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
      return "error";
  }
}

constexpr const char* kDetectOutcomes[] = {
    "done",        "cancelled", "deadline_exceeded",
    "unavailable", "rejected",  "error"};

const char* DetectOutcome(const absl::Status& status) {
  return status.ok() ? "done" : Outcome(status, FinishReason::kEos);
}

// One model's scheduler. The handles live as long as the families; those of the
// gauges until the model is removed, when no scheduler calls any more.
class SchedulerMetrics final : public SchedulerObserver {
 public:
  SchedulerMetrics(std::shared_ptr<Families> families, const std::string& model)
      : families_(std::move(families)),
        queued_(families_->gauge(kQueued, {model})),
        running_(families_->gauge(kRunning, {model})),
        kv_capacity_(families_->gauge(kKvCapacityBytes, {model})),
        kv_used_(families_->gauge(kKvUsedBytes, {model})),
        prompt_tokens_(families_->counter(kPromptTokens, {model})),
        generated_tokens_(families_->counter(kGeneratedTokens, {model})),
        time_to_first_token_(families_->histogram(kTimeToFirstToken, {model})),
        time_per_output_token_(
            families_->histogram(kTimePerOutputToken, {model})),
        duration_(families_->histogram(kRequestDuration, {model})),
        queue_(families_->histogram(kQueueDuration, {model})) {
    for (const char* outcome : kOutcomes) {
      outcomes_[outcome] = &families_->counter(kRequests, {model, outcome});
    }
  }

  void OnFirstToken(absl::Duration time_to_first_token) override {
    time_to_first_token_.Observe(absl::ToDoubleSeconds(time_to_first_token));
  }

  void OnTokens(int64_t prompt_tokens, int64_t new_tokens) override {
    prompt_tokens_.Increment(static_cast<double>(prompt_tokens));
    generated_tokens_.Increment(static_cast<double>(new_tokens));
  }

  void OnDone(const absl::Status& status, FinishReason reason,
              const GenerateResult& result) override {
    outcomes_.at(Outcome(status, reason))->Increment();
    if (!status.ok()) return;
    duration_.Observe(absl::ToDoubleSeconds(result.total));
    queue_.Observe(absl::ToDoubleSeconds(result.queued));
    if (result.new_tokens > 1) {
      time_per_output_token_.Observe(
          absl::ToDoubleSeconds(result.total - result.time_to_first_token) /
          static_cast<double>(result.new_tokens - 1));
    }
  }

  void OnStats(const SchedulerStats& stats) override {
    queued_.Set(static_cast<double>(stats.queued));
    running_.Set(static_cast<double>(stats.running));
    kv_capacity_.Set(static_cast<double>(stats.kv_capacity_bytes));
    kv_used_.Set(static_cast<double>(stats.kv_used_bytes));
  }

 private:
  const std::shared_ptr<Families> families_;
  Gauge& queued_;
  Gauge& running_;
  Gauge& kv_capacity_;
  Gauge& kv_used_;
  Counter& prompt_tokens_;
  Counter& generated_tokens_;
  Histogram& time_to_first_token_;
  Histogram& time_per_output_token_;
  Histogram& duration_;
  Histogram& queue_;
  std::map<std::string_view, Counter*> outcomes_;
};

// One detector's scheduler; the handles live as those above.
class DetectMetrics final : public DetectObserver {
 public:
  DetectMetrics(std::shared_ptr<Families> families, const std::string& model)
      : families_(std::move(families)),
        queued_(families_->gauge(kQueued, {model})),
        running_(families_->gauge(kRunning, {model})),
        duration_(families_->histogram(kDetectDuration, {model})),
        queue_(families_->histogram(kDetectQueueDuration, {model})),
        decode_(families_->histogram(kDetectDecodeDuration, {model})),
        in_model_(families_->histogram(kDetectModelDuration, {model})),
        batch_pictures_(families_->histogram(kDetectBatchPictures, {model})) {
    for (const char* outcome : kDetectOutcomes) {
      outcomes_[outcome] =
          &families_->counter(kDetectRequests, {model, outcome});
    }
  }

  void OnBatch(int64_t pictures, absl::Duration in_model) override {
    batch_pictures_.Observe(static_cast<double>(pictures));
    in_model_.Observe(absl::ToDoubleSeconds(in_model));
  }

  void OnDone(const absl::Status& status, const DetectResult& result) override {
    outcomes_.at(DetectOutcome(status))->Increment();
    if (!status.ok()) return;
    duration_.Observe(absl::ToDoubleSeconds(result.total));
    queue_.Observe(absl::ToDoubleSeconds(result.queued));
    decode_.Observe(absl::ToDoubleSeconds(result.decode));
  }

  void OnStats(const DetectStats& stats) override {
    queued_.Set(static_cast<double>(stats.queued));
    running_.Set(static_cast<double>(stats.running));
  }

 private:
  const std::shared_ptr<Families> families_;
  Gauge& queued_;
  Gauge& running_;
  Histogram& duration_;
  Histogram& queue_;
  Histogram& decode_;
  Histogram& in_model_;
  Histogram& batch_pictures_;
  std::map<std::string_view, Counter*> outcomes_;
};

}  // namespace

std::unique_ptr<SchedulerObserver> MakeSchedulerMetrics(
    std::shared_ptr<Families> families, const std::string& model) {
  return std::make_unique<SchedulerMetrics>(std::move(families), model);
}

std::unique_ptr<DetectObserver> MakeDetectMetrics(
    std::shared_ptr<Families> families, const std::string& model) {
  return std::make_unique<DetectMetrics>(std::move(families), model);
}

const char* RejectedOutcome(const absl::Status& why) {
  return absl::IsCancelled(why)          ? "cancelled"
         : absl::IsDeadlineExceeded(why) ? "deadline_exceeded"
                                         : "rejected";
}

}  // namespace ounce::server
