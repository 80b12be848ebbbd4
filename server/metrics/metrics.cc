#include "server/metrics/metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <exception>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/mapped_memory.h"
#include "base/mutex.h"

namespace ounce::server {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using Labels = prometheus::Labels;

// Rows of the table; the order of both is the same.
enum MetricId {
  kBuildInfo,
  kResidentBytes,
  kPeakResidentBytes,
  kModelState,
  kWeightBytes,
  kStoredBytes,
  kCheckpointBytes,
  kSavedBytes,
  kSavedRatio,
  kKvCapacityBytes,
  kKvUsedBytes,
  kQueued,
  kRunning,
  kRequests,
  kPromptTokens,
  kGeneratedTokens,
  kTimeToFirstToken,
  kTimePerOutputToken,
  kRequestDuration,
  kQueueDuration,
  kQuantizations,
  kQuantizationDuration,
  kQuantizationStage,
  kNumMetrics
};

// OpenTelemetry's buckets for generative servers, extended upward for CPUs and
// downward for small models.
std::vector<double> TimeToFirstTokenBuckets() {
  return {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,
          .75,  1,    2.5, 5,   7.5, 10,  20,  40, 60};
}
std::vector<double> TimePerOutputTokenBuckets() {
  return {.001, .0025, .005, .01, .025, .05, .075, .1, .15,
          .2,   .3,    .4,   .5,  .75,  1,   2.5,  5,  10};
}
std::vector<double> DurationBuckets() {
  return {.01,  .02,   .04,   .08,   .16,   .32,    .64,    1.28,  2.56,
          5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36};
}

const char* StateName(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return "loading";
    case ModelState::kReady:
      return "ready";
    case ModelState::kQuantizing:
      return "quantizing";
    case ModelState::kUnloading:
      return "unloading";
  }
  return "";
}
constexpr ModelState kStates[] = {ModelState::kLoading, ModelState::kReady,
                                  ModelState::kQuantizing,
                                  ModelState::kUnloading};

const char* StageName(QuantizeStage stage) {
  switch (stage) {
    case QuantizeStage::kReading:
      return "reading";
    case QuantizeStage::kQuantizing:
      return "quantizing";
    case QuantizeStage::kSwapping:
      return "swapping";
  }
  return "";
}
constexpr QuantizeStage kStages[] = {QuantizeStage::kReading,
                                     QuantizeStage::kQuantizing,
                                     QuantizeStage::kSwapping};

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

// The registry with a family per row of the table.
class Families {
 public:
  Families() {
    for (const MetricSpec& spec : MetricTable()) {
      Any family;
      switch (spec.type) {
        case MetricSpec::kGauge:
          family.gauge = &prometheus::BuildGauge()
                              .Name(spec.name)
                              .Help(spec.help)
                              .Register(registry_);
          break;
        case MetricSpec::kCounter:
          family.counter = &prometheus::BuildCounter()
                                .Name(spec.name)
                                .Help(spec.help)
                                .Register(registry_);
          break;
        case MetricSpec::kHistogram:
          family.histogram = &prometheus::BuildHistogram()
                                  .Name(spec.name)
                                  .Help(spec.help)
                                  .Register(registry_);
          break;
      }
      families_.push_back(family);
    }
  }

  // `values` in the order of the row's labels. The same values give the same
  // metric.
  Gauge& gauge(MetricId id, const std::vector<std::string>& values) {
    return families_[id].gauge->Add(LabelsOf(id, values));
  }
  Counter& counter(MetricId id, const std::vector<std::string>& values) {
    return families_[id].counter->Add(LabelsOf(id, values));
  }
  Histogram& histogram(MetricId id, const std::vector<std::string>& values) {
    return families_[id].histogram->Add(LabelsOf(id, values),
                                        MetricTable()[id].buckets);
  }
  void Remove(MetricId id, Gauge* gauge) { families_[id].gauge->Remove(gauge); }

  std::vector<prometheus::MetricFamily> Collect() const {
    return registry_.Collect();
  }

 private:
  struct Any {  // one of them
    Family<Gauge>* gauge = nullptr;
    Family<Counter>* counter = nullptr;
    Family<Histogram>* histogram = nullptr;
  };

  static Labels LabelsOf(MetricId id, const std::vector<std::string>& values) {
    const std::vector<const char*>& names = MetricTable()[id].labels;
    Labels labels;
    for (size_t i = 0; i < names.size(); ++i) labels[names[i]] = values.at(i);
    return labels;
  }

  prometheus::Registry registry_;
  std::vector<Any> families_;
};

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

// Connects to an IPv4 HOST:PORT and hangs up; nothing if it can't.
void Knock(const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = 0;
  sockaddr_in to{};
  to.sin_family = AF_INET;
  if (colon == std::string::npos ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr) != 1) {
    return;
  }
  to.sin_port = htons(static_cast<uint16_t>(port));
  const int knocking = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (knocking < 0) return;
  static_cast<void>(
      connect(knocking, reinterpret_cast<sockaddr*>(&to), sizeof(to)));
  close(knocking);
}

// What is read at the moment of a scrape.
class Scrape final : public prometheus::Collectable {
 public:
  explicit Scrape(std::shared_ptr<Families> families)
      : families_(std::move(families)),
        resident_(families_->gauge(kResidentBytes, {})),
        peak_(families_->gauge(kPeakResidentBytes, {})) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    resident_.Set(static_cast<double>(ResidentBytes()));
    peak_.Set(static_cast<double>(PeakResidentBytes()));
    return families_->Collect();
  }

 private:
  const std::shared_ptr<Families> families_;
  Gauge& resident_;
  Gauge& peak_;
};

class MetricsImpl final : public Metrics {
 public:
  explicit MetricsImpl(const BuildInfo& build)
      : families_(std::make_shared<Families>()),
        scrape_(std::make_shared<Scrape>(families_)) {
    families_->gauge(kBuildInfo, {build.version, build.isa, build.compiler})
        .Set(1);
  }

  ~MetricsImpl() override {
    // The web server notices its end when somebody connects, or after 2 s.
    Mutex mu;
    CondVar changed;
    bool ended = false;
    std::thread knocker([&] {
      MutexLock lock(&mu);
      while (!ended) {
        Knock(address_);
        changed.WaitFor(&mu, absl::Milliseconds(5));
      }
    });
    exposer_.reset();
    {
      MutexLock lock(&mu);
      ended = true;
    }
    changed.SignalAll();
    knocker.join();
  }

  std::unique_ptr<SchedulerObserver> ObserveScheduler(
      const std::string& model) override {
    return std::make_unique<SchedulerMetrics>(families_, model);
  }

  void OnModelChanged(const ModelInfo& info) override {
    MutexLock lock(&mu_);
    const std::string& model = info.name;
    // Those of this model before; what is still true is set again below.
    const std::vector<std::pair<MetricId, Gauge*>> before =
        std::exchange(gauges_[model], {});
    Shown shown;
    for (const ModelState state : kStates) {
      Show(kModelState, {model, StateName(state)}, state == info.state, &shown);
    }
    if (info.version > 0) {
      const std::string version = absl::StrCat(info.version);
      for (const auto& [element, bytes] : info.resident_bytes_by_element) {
        Show(kWeightBytes, {model, version, info.method, element}, bytes,
             &shown);
      }
      Show(kStoredBytes, {model, version, info.method}, info.stored_bytes,
           &shown);
      Show(kCheckpointBytes, {model}, info.checkpoint_bytes, &shown);
      Show(kSavedBytes, {model}, info.checkpoint_bytes - info.stored_bytes,
           &shown);
      if (info.checkpoint_bytes > 0) {
        Show(kSavedRatio, {model},
             1 - static_cast<double>(info.stored_bytes) /
                     static_cast<double>(info.checkpoint_bytes),
             &shown);
      }
    }
    for (const auto& [id, gauge] : before) {
      if (!shown.contains(gauge)) families_->Remove(id, gauge);
    }
    for (const auto& [gauge, id] : shown) {
      gauges_[model].emplace_back(id, gauge);
    }
  }

  void OnModelRemoved(const std::string& model) override {
    MutexLock lock(&mu_);
    for (const auto& [id, gauge] : gauges_[model]) {
      families_->Remove(id, gauge);
    }
    gauges_.erase(model);
    for (const MetricId id :
         {kQueued, kRunning, kKvCapacityBytes, kKvUsedBytes}) {
      families_->Remove(id, &families_->gauge(id, {model}));
    }
    HideStages(model);
  }

  void OnQuantizeStage(const std::string& model, QuantizeStage stage) override {
    MutexLock lock(&mu_);
    for (const QuantizeStage each : kStages) {
      families_->gauge(kQuantizationStage, {model, StageName(each)})
          .Set(each == stage);
    }
  }

  void OnQuantizeDone(const std::string& model, const std::string& method,
                      const absl::Status& status,
                      absl::Duration duration) override {
    MutexLock lock(&mu_);
    const char* outcome = status.ok()                   ? "done"
                          : absl::IsCancelled(status)   ? "cancelled"
                          : absl::IsUnavailable(status) ? "unavailable"
                                                        : "error";
    families_->counter(kQuantizations, {model, method, outcome}).Increment();
    if (status.ok()) {
      families_->histogram(kQuantizationDuration, {model, method})
          .Observe(absl::ToDoubleSeconds(duration));
    }
    HideStages(model);
  }

  void OnRejected(const std::string& model) override {
    families_->counter(kRequests, {model, "rejected"}).Increment();
  }

  std::string Text() const override {
    return prometheus::TextSerializer().Serialize(scrape_->Collect());
  }

  absl::StatusOr<std::string> Listen(const std::string& address) override {
    const size_t colon = address.rfind(':');
    // The library reports a port in use, or no port at all, by an exception.
    try {
      exposer_ = std::make_unique<prometheus::Exposer>(address,
                                                       /*num_threads=*/2);
      exposer_->RegisterCollectable(scrape_);
      const std::vector<int> ports = exposer_->GetListeningPorts();
      if (colon != std::string::npos && !ports.empty()) {
        address_ = absl::StrCat(address.substr(0, colon), ":", ports.front());
        return address_;
      }
    } catch (const std::exception&) {
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "metrics_listen: an address of this machine and a free port wanted, '",
        address, "' found"));
  }

 private:
  using Shown = std::map<Gauge*, MetricId>;

  void Show(MetricId id, const std::vector<std::string>& values, double value,
            Shown* shown) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Gauge& gauge = families_->gauge(id, values);
    gauge.Set(value);
    (*shown)[&gauge] = id;
  }

  void HideStages(const std::string& model) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    for (const QuantizeStage each : kStages) {
      families_->Remove(
          kQuantizationStage,
          &families_->gauge(kQuantizationStage, {model, StageName(each)}));
    }
  }

  const std::shared_ptr<Families> families_;
  const std::shared_ptr<Scrape> scrape_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::string address_;  // its HOST:PORT

  Mutex mu_;
  // What OnModelChanged shows now, by model.
  std::map<std::string, std::vector<std::pair<MetricId, Gauge*>>> gauges_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace

const std::vector<MetricSpec>& MetricTable() {
  static const auto* const kTable = new std::vector<MetricSpec>{
      {"ounce_build_info",
       MetricSpec::kGauge,
       "Always 1; what this server was built as and computes with",
       {"version", "isa", "compiler"}},
      {"ounce_process_resident_bytes",
       MetricSpec::kGauge,
       "Resident memory of the process, now",
       {}},
      {"ounce_process_peak_resident_bytes",
       MetricSpec::kGauge,
       "Resident memory of the process, at its highest since the start",
       {}},
      {"ounce_model_state",
       MetricSpec::kGauge,
       "1 for the state the model is in, 0 for the others",
       {"model", "state"}},
      {"ounce_model_weight_bytes",
       MetricSpec::kGauge,
       "Bytes in memory for the serving version's weights, packing included",
       {"model", "version", "method", "dtype"}},
      {"ounce_model_stored_bytes",
       MetricSpec::kGauge,
       "Bytes of the serving version's parameters and buffers, by Hugging "
       "Face's convention",
       {"model", "version", "method"}},
      {"ounce_model_checkpoint_bytes",
       MetricSpec::kGauge,
       "Bytes of the weights in the checkpoint, in its own dtypes",
       {"model"}},
      {"ounce_model_saved_bytes",
       MetricSpec::kGauge,
       "Checkpoint bytes less stored bytes; negative if the model grew",
       {"model"}},
      {"ounce_model_saved_ratio",
       MetricSpec::kGauge,
       "Saved bytes as a share of the checkpoint's; 0.35 is 35 % saved",
       {"model"}},
      {"ounce_kv_cache_capacity_bytes",
       MetricSpec::kGauge,
       "Most bytes that the model's keys and values may take",
       {"model"}},
      {"ounce_kv_cache_used_bytes",
       MetricSpec::kGauge,
       "Bytes of keys and values that running requests hold",
       {"model"}},
      {"ounce_requests_queued",
       MetricSpec::kGauge,
       "Requests that wait for their first step",
       {"model"}},
      {"ounce_requests_running",
       MetricSpec::kGauge,
       "Requests that take part in steps",
       {"model"}},
      {"ounce_requests_total",
       MetricSpec::kCounter,
       "Generate requests by how they ended; model is empty where the request "
       "named none that is served",
       {"model", "outcome"}},
      {"ounce_prompt_tokens_total",
       MetricSpec::kCounter,
       "Prompt tokens computed",
       {"model"}},
      {"ounce_generated_tokens_total",
       MetricSpec::kCounter,
       "Tokens generated",
       {"model"}},
      {"ounce_time_to_first_token_seconds",
       MetricSpec::kHistogram,
       "From arrival until the first new token",
       {"model"},
       TimeToFirstTokenBuckets()},
      {"ounce_time_per_output_token_seconds",
       MetricSpec::kHistogram,
       "Mean time of a request's tokens after the first; finished requests",
       {"model"},
       TimePerOutputTokenBuckets()},
      {"ounce_request_duration_seconds",
       MetricSpec::kHistogram,
       "From arrival until the end; finished requests",
       {"model"},
       DurationBuckets()},
      {"ounce_queue_seconds",
       MetricSpec::kHistogram,
       "From arrival until the first step; finished requests",
       {"model"},
       TimeToFirstTokenBuckets()},
      {"ounce_quantizations_total",
       MetricSpec::kCounter,
       "Quantization runs by how they ended (done, cancelled, unavailable, "
       "error), dry runs included",
       {"model", "method", "outcome"}},
      {"ounce_quantization_seconds",
       MetricSpec::kHistogram,
       "Duration of quantizations that were done",
       {"model", "method"},
       DurationBuckets()},
      {"ounce_quantization_stage",
       MetricSpec::kGauge,
       "1 for the stage that the running quantization is in; absent without "
       "one",
       {"model", "stage"}},
  };
  static_assert(kNumMetrics == 23);
  return *kTable;
}

std::unique_ptr<Metrics> Metrics::Create(const BuildInfo& build) {
  return std::make_unique<MetricsImpl>(build);
}

}  // namespace ounce::server
