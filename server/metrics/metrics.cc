#include "server/metrics/metrics.h"

#include <prometheus/gauge.h>
#include <prometheus/text_serializer.h>

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/mapped_memory.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "quant/registry.h"
#include "server/metrics/connection_figures.h"
#include "server/metrics/http_endpoint.h"
#include "server/metrics/model_metrics.h"
#include "server/metrics/page_files.h"
#include "server/metrics/process_figures.h"
#include "server/metrics/series.h"
#include "server/metrics/status_json.h"
#include "server/net/listen_socket.h"
#include "server/net/relay.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

constexpr char kListener[] = "metrics_listen";
// With TLS: those that shake hands, and the endpoint's own.
constexpr int kMaxTlsConnections = 128;

constexpr ModelState kStates[] = {ModelState::kLoading, ModelState::kReady,
                                  ModelState::kQuantizing,
                                  ModelState::kUnloading};

constexpr QuantizeStage kStages[] = {
    QuantizeStage::kReading, QuantizeStage::kWaiting,
    QuantizeStage::kQuantizing, QuantizeStage::kEvaluating,
    QuantizeStage::kSwapping};

// However many ask, /status.json is made anew no more often than this.
constexpr absl::Duration kStatusLasts = absl::Milliseconds(500);

constexpr const char* kRunOutcomes[] = {"done", "cancelled", "unavailable",
                                        "refused_quality", "error"};

constexpr const char* kSaveOutcomes[] = {"done", "cancelled", "unavailable",
                                         "error"};

const char* RunOutcome(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  const bool is_of_quality =
      reason == Reason::kQualityTooLow || reason == Reason::kModelNotFinite;
  return status.ok()                   ? "done"
         : is_of_quality               ? "refused_quality"
         : absl::IsCancelled(status)   ? "cancelled"
         : absl::IsUnavailable(status) ? "unavailable"
                                       : "error";
}

// All series, and the sources of some of them.
class Page final : public Figures {
 public:
  explicit Page(const Clock& clock) : series_(clock) {}

  Series& series() { return series_; }

  std::unique_ptr<FigureSource> AddSource(
      std::function<void(Figures&)> source) {
    MutexLock lock(&scrape_mu_);
    const int64_t id = next_id_++;
    sources_[id] = std::move(source);
    return std::make_unique<Source>(*this, id);
  }

  std::vector<prometheus::MetricFamily> Scrape() {
    MutexLock lock(&scrape_mu_);
    series_.EndScrape();
    for (const auto& [id, source] : sources_) source(*this);
    return series_.Collect();
  }

 private:
  class Source final : public FigureSource {
   public:
    Source(Page& page, int64_t id) : page_(page), id_(id) {}
    ~Source() override {
      MutexLock lock(&page_.scrape_mu_);
      page_.sources_.erase(id_);
    }

   private:
    Page& page_;
    const int64_t id_;
  };

  void SetGauge(size_t row, const std::vector<std::string>& labels,
                double value) override {
    series_.GetGauge(row, labels)->Set(value);
  }
  void AddToCounter(size_t row, const std::vector<std::string>& labels,
                    double by) override {
    series_.GetCounter(row, labels)->Increment(by);
  }
  void RaiseCounter(size_t row, const std::vector<std::string>& labels,
                    double total) override {
    const auto counter = series_.GetCounter(row, labels);
    counter->Increment(total - counter->Value());
  }
  void ObserveIn(size_t row, const std::vector<std::string>& labels,
                 double value) override {
    series_.GetHistogram(row, labels)->Observe(value);
  }

  Series series_;

  Mutex scrape_mu_;  // one scrape at a time; before series_' own
  std::map<int64_t, std::function<void(Figures&)>> sources_
      ABSL_GUARDED_BY(scrape_mu_);
  int64_t next_id_ ABSL_GUARDED_BY(scrape_mu_) = 0;
};

class MetricsImpl final : public Metrics {
 public:
  MetricsImpl(const BuildInfo& build, const Clock& clock)
      : build_(build),
        clock_(clock),
        page_(clock),
        series_(page_.series()),
        process_(page_.AddSource(SetProcessFigures)),
        pictures_(series_.Get(metric::kPictures, {})),
        picture_bytes_(series_.Get(metric::kPictureBytes, {})) {
    series_.Get(metric::kScrapes, {});
    series_.Get(metric::kScrapedBytes, {});
    page_.Set(metric::kBuildInfo, {build.version, build.isa, build.compiler},
              1);
    // Of requests that name no model that is served.
    for (const char* outcome : kRejectedOutcomes) {
      series_.Get(metric::kRequests, {"", outcome});
      series_.Get(metric::kDetectRequests, {"", outcome});
    }
  }

  Figures& figures() override { return page_; }
  std::unique_ptr<FigureSource> AddSource(
      std::function<void(Figures&)> source) override {
    return page_.AddSource(std::move(source));
  }

  std::unique_ptr<SchedulerObserver> ObserveScheduler(
      const std::string& model) override {
    series_.StartModel(model);
    return MakeSchedulerMetrics(series_, model);
  }
  std::unique_ptr<DetectObserver> ObserveDetection(
      const std::string& model) override {
    series_.StartModel(model);
    return MakeDetectMetrics(series_, model);
  }

  void OnModelChanged(const ModelInfo& info) override {
    const std::string& model = info.name;
    series_.StartModel(model);
    {
      MutexLock lock(&mu_);
      if (info.state == ModelState::kLoading) {
        loading_.insert(model);
      } else {
        loading_.erase(model);
      }
    }
    for (const ModelState state : kStates) {
      page_.Set(metric::kModelState, {model, ModelStateName(state)},
                state == info.state);
    }
    if (info.version == 0) return;  // not loaded yet
    const auto bytes = [](int64_t count) { return static_cast<double>(count); };
    const std::string version = absl::StrCat(info.version);
    page_.Set(metric::kModelInfo,
              {model, version, info.method, info.compute, info.architecture},
              1);
    for (const auto& [element, count] : info.resident_bytes_by_element) {
      page_.Set(metric::kWeightBytes, {model, version, info.method, element},
                bytes(count));
    }
    page_.Set(metric::kStoredBytes, {model, version, info.method},
              bytes(info.stored_bytes));
    series_.EndOtherVersions(model, version);
    page_.Set(metric::kCheckpointBytes, {model}, bytes(info.checkpoint_bytes));
    page_.Set(metric::kSavedBytes, {model},
              bytes(info.checkpoint_bytes - info.stored_bytes));
    if (info.checkpoint_bytes > 0) {
      page_.Set(metric::kSavedRatio, {model},
                1 - bytes(info.stored_bytes) / bytes(info.checkpoint_bytes));
    }
    for (const quant::QuantMethod* method : quant::AllMethods()) {
      StartRuns(model, std::string(method->name()));
    }
    for (const char* outcome : kSaveOutcomes) {
      series_.Get(metric::kSaves, {model, outcome});
    }
    series_.Get(metric::kWrittenBytes, {model});
    series_.Get(metric::kSaveDuration, {model});
  }

  void OnModelRemoved(const std::string& model) override {
    series_.EndModel(model);
    MutexLock lock(&mu_);
    loading_.erase(model);
  }

  void OnQuantizeStage(const std::string& model, const std::string& method,
                       QuantizeStage stage) override {
    StartRuns(model, method);
    series_.Get(metric::kQuantizationDuration, {model, method});
    for (const QuantizeStage each : kStages) {
      page_.Set(metric::kQuantizationStage, {model, QuantizeStageName(each)},
                each == stage);
    }
  }

  void OnQuantizeDone(const std::string& model, const std::string& method,
                      const absl::Status& status,
                      absl::Duration duration) override {
    page_.Add(metric::kQuantizations, {model, method, RunOutcome(status)});
    if (status.ok()) {
      page_.Observe(metric::kQuantizationDuration, {model, method},
                    Seconds(duration));
    }
    series_.EndRun(model);
  }

  void OnSaveDone(const std::string& model, const absl::Status& status,
                  int64_t weight_bytes, absl::Duration duration) override {
    page_.Add(metric::kSaves, {model, RunOutcome(status)});
    if (!status.ok()) return;
    page_.Add(metric::kWrittenBytes, {model},
              static_cast<double>(weight_bytes));
    page_.Observe(metric::kSaveDuration, {model}, Seconds(duration));
  }

  void OnEvaluated(const std::string& model,
                   const TextQuality& quality) override {
    page_.Set(metric::kPerplexity, {model, quality.method}, quality.perplexity);
    page_.Set(metric::kBitsPerByte, {model, quality.method},
              quality.bits_per_byte);
    if (!quality.floats.has_value()) return;
    page_.Set(metric::kKlDivergence, {model, quality.method},
              quality.floats->mean_kl_divergence);
    page_.Set(metric::kTop1Agreement, {model, quality.method},
              quality.floats->top1_agreement);
  }

  void OnDetectionEvaluated(const std::string& model,
                            const DetectionQuality& quality) override {
    if (quality.coco.has_value() && quality.coco->ap >= 0) {
      page_.Set(metric::kCocoPrecision, {model, quality.method},
                quality.coco->ap);
    }
    if (quality.float_detections > 0) {
      page_.Set(metric::kMatchedRatio, {model, quality.method},
                static_cast<double>(quality.matched) /
                    static_cast<double>(quality.float_detections));
    }
    if (quality.matched > 0) {
      page_.Set(metric::kScoreDrift, {model, quality.method},
                quality.mean_score_drift);
      page_.Set(metric::kBoxDrift, {model, quality.method},
                quality.mean_box_drift);
    }
  }

  void OnRejected(const std::string& model, const absl::Status& why) override {
    CountRejected(metric::kRequests, model, why);
  }
  void OnDetectRejected(const std::string& model,
                        const absl::Status& why) override {
    CountRejected(metric::kDetectRequests, model, why);
  }
  void OnPictures(int64_t pictures, int64_t bytes) override {
    pictures_->Set(static_cast<double>(pictures));
    picture_bytes_->Set(static_cast<double>(bytes));
  }

  void SetServing(bool serving, const std::string& missing) override {
    MutexLock lock(&mu_);
    missing_ = missing;
    if (serving) {
      phase_ = Phase::kServing;
    } else if (missing.empty() && phase_ != Phase::kStarting) {
      phase_ = Phase::kStopping;
    }
  }

  std::unique_ptr<FigureSource> ServeStatus(
      std::function<ServerStatus()> status) override {
    MutexLock lock(&status_mu_);
    status_ = std::move(status);
    return std::make_unique<StatusSource>(*this);
  }

  std::string Text() override {
    return prometheus::TextSerializer().Serialize(page_.Scrape());
  }

  absl::StatusOr<std::string> Listen(
      const std::string& address, const NewTlsSession& new_tls,
      const std::optional<std::vector<std::string>>& hosts) override {
    ListenSocket socket;
    if (new_tls == nullptr) {
      ASSIGN_OR_RETURN(socket, ListenOn(kListener, address));
    }
    std::string bound = socket.address;
    ASSIGN_OR_RETURN(
        endpoint_, HttpEndpoint::Start(std::move(socket), {.hosts = hosts},
                                       clock_, [this](const std::string& path) {
                                         return Answer(path);
                                       }));
    if (new_tls == nullptr) return bound;
    Relay::Options relay;
    relay.name = kListener;
    relay.address = address;
    relay.max_connections = kMaxTlsConnections;
    relay.max_connections_per_peer = kMaxTlsConnections / 2;
    relay.guard = std::nullopt;
    relay.new_tls = new_tls;
    Relay::Callbacks callbacks;
    callbacks.on_connection = [this](int fd) {
      endpoint_->Add(FileDescriptor(fd));
    };
    CountConnections(kListener, page_, &callbacks);
    ASSIGN_OR_RETURN(relay_,
                     Relay::Create(relay, std::move(callbacks), clock_));
    relay_->Start();
    return relay_->address();
  }

 private:
  class StatusSource final : public FigureSource {
   public:
    explicit StatusSource(MetricsImpl& metrics) : metrics_(metrics) {}
    ~StatusSource() override {
      MutexLock lock(&metrics_.status_mu_);
      metrics_.status_ = nullptr;
    }

   private:
    MetricsImpl& metrics_;
  };

  template <class Key>
  void CountRejected(Key key, const std::string& model,
                     const absl::Status& why) {
    page_.Add(key, {model, RejectedOutcome(why)});
    // Nobody refused what its caller gave up.
    if (absl::IsCancelled(why) || absl::IsDeadlineExceeded(why)) return;
    page_.Add(metric::kRefusedRequests, {model, RowOf(ReasonOf(why)).name});
  }

  // All outcomes of the model's quantizations by `method` are there, at 0.
  void StartRuns(const std::string& model, const std::string& method) {
    for (const char* outcome : kRunOutcomes) {
      series_.Get(metric::kQuantizations, {model, method, outcome});
    }
  }

  enum class Phase { kStarting, kServing, kStopping };

  static const char* PhaseName(Phase phase) {
    switch (phase) {
      case Phase::kStarting:
        return "starting";
      case Phase::kServing:
        return "serving";
      case Phase::kStopping:
        return "stopping";
    }
    return "";
  }

  HttpReply Answer(const std::string& path) {
    if (path == "/metrics") {
      std::string page = Text();
      page_.Add(metric::kScrapes, {});
      page_.Add(metric::kScrapedBytes, {}, static_cast<double>(page.size()));
      return {200, std::move(page), "text/plain; version=0.0.4; charset=utf-8"};
    }
    if (path == "/healthz") return {200, "alive\n"};
    if (path == "/readyz") {
      const std::vector<std::string> reasons = NotReady();
      if (reasons.empty()) return {200, "ready\n"};
      return {503,
              absl::StrCat("not ready: ", absl::StrJoin(reasons, "; "), "\n")};
    }
    if (path == "/status.json") return Status();
    for (const PageFile& file : kPageFiles) {
      if (path == file.path) {
        return {200, std::string(file.content), file.content_type};
      }
    }
    return {404,
            "nothing here; there are / to look at, /status.json, /metrics, "
            "/healthz and /readyz\n"};
  }

  HttpReply Status() {
    MutexLock lock(&status_mu_);
    if (status_ == nullptr) return {503, "the server starts or stops\n"};
    const absl::Time now = clock_.Now();
    if (status_json_.empty() || now - status_made_ >= kStatusLasts) {
      status_json_ = MakeStatus(status_());
      status_made_ = now;
    }
    return {200, status_json_, "application/json"};
  }

  std::string MakeStatus(const ServerStatus& status) {
    MeasuredStatus measured;
    measured.version = build_.version;
    measured.instruction_set = build_.isa;
    measured.resident_bytes = ResidentBytes();
    measured.not_ready = NotReady();
    {
      MutexLock lock(&mu_);
      measured.phase = PhaseName(phase_);
    }
    const auto count = [](double value) { return static_cast<int64_t>(value); };
    for (const ModelInfo& info : status.models) {
      ModelCounts& counts = measured.models[info.name];
      const auto of = [&](size_t row) {
        return series_.ValuesOf(row, info.name);
      };
      for (const auto& [none, value] : of(metric::kPromptTokens.row)) {
        counts.prompt_tokens = count(value);
      }
      for (const auto& [none, value] : of(metric::kGeneratedTokens.row)) {
        counts.generated_tokens = count(value);
      }
      // The service counts refusals of a task that the model lacks.
      for (const size_t row :
           {metric::kRequests.row, metric::kDetectRequests.row}) {
        for (const auto& [outcome, value] : of(row)) {
          counts.requests[outcome] += count(value);
        }
      }
      for (const auto& [stage, value] : of(metric::kQuantizationStage.row)) {
        if (value != 0) counts.stage = stage;
      }
    }
    return StatusJson(status, measured);
  }

  std::vector<std::string> NotReady() {
    MutexLock lock(&mu_);
    switch (phase_) {
      case Phase::kServing:
        if (missing_.empty()) return {};
        return {missing_};
      case Phase::kStopping:
        return {"shutting down"};
      case Phase::kStarting:
        break;
    }
    std::vector<std::string> reasons;
    for (const std::string& model : loading_) {
      reasons.push_back(absl::StrCat("loading model ", model));
    }
    if (reasons.empty()) reasons = {"starting"};
    return reasons;
  }

  const BuildInfo build_;
  const Clock& clock_;
  Page page_;
  Series& series_;  // of the page
  const std::unique_ptr<FigureSource> process_;
  const std::shared_ptr<prometheus::Gauge> pictures_;
  const std::shared_ptr<prometheus::Gauge> picture_bytes_;

  Mutex mu_;
  Phase phase_ ABSL_GUARDED_BY(mu_) = Phase::kStarting;
  std::string missing_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> loading_ ABSL_GUARDED_BY(mu_);

  Mutex status_mu_;  // before the catalog's own, and mu_
  std::function<ServerStatus()> status_ ABSL_GUARDED_BY(status_mu_);
  std::string status_json_ ABSL_GUARDED_BY(status_mu_);
  absl::Time status_made_ ABSL_GUARDED_BY(status_mu_);

  // They call the above, and end first.
  std::unique_ptr<HttpEndpoint> endpoint_;
  std::unique_ptr<Relay> relay_;  // where there is TLS
};

}  // namespace

std::unique_ptr<Metrics> Metrics::Create(const BuildInfo& build,
                                         const Clock& clock) {
  return std::make_unique<MetricsImpl>(build, clock);
}

}  // namespace ounce::server
