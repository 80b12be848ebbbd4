#include "server/metrics/metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <exception>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "quant/registry.h"
#include "server/metrics/model_metrics.h"
#include "server/metrics/process_figures.h"
#include "server/metrics/series.h"

namespace ounce::server {
namespace {

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

constexpr const char* kRunOutcomes[] = {"done", "cancelled", "unavailable",
                                        "error"};

const char* RunOutcome(const absl::Status& status) {
  return status.ok()                   ? "done"
         : absl::IsCancelled(status)   ? "cancelled"
         : absl::IsUnavailable(status) ? "unavailable"
                                       : "error";
}

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

// All series, and the sources of some of them.
class Page final : public Figures, public prometheus::Collectable {
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

  std::vector<prometheus::MetricFamily> Collect() const override {
    return const_cast<Page*>(this)->Scrape();  // the exposer's only call
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
      : page_(std::make_shared<Page>(clock)),
        series_(page_->series()),
        process_(page_->AddSource(SetProcessFigures)),
        pictures_(series_.Get(metric::kPictures, {})),
        picture_bytes_(series_.Get(metric::kPictureBytes, {})) {
    page_->Set(metric::kBuildInfo, {build.version, build.isa, build.compiler},
               1);
    // Of requests that name no model that is served.
    for (const char* outcome : kRejectedOutcomes) {
      series_.Get(metric::kRequests, {"", outcome});
      series_.Get(metric::kDetectRequests, {"", outcome});
    }
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

  Figures& figures() override { return *page_; }
  std::unique_ptr<FigureSource> AddSource(
      std::function<void(Figures&)> source) override {
    return page_->AddSource(std::move(source));
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
    for (const ModelState state : kStates) {
      page_->Set(metric::kModelState, {model, StateName(state)},
                 state == info.state);
    }
    if (info.version == 0) return;  // not loaded yet
    const auto bytes = [](int64_t count) { return static_cast<double>(count); };
    const std::string version = absl::StrCat(info.version);
    page_->Set(metric::kModelInfo,
               {model, version, info.method, info.compute, info.architecture},
               1);
    for (const auto& [element, count] : info.resident_bytes_by_element) {
      page_->Set(metric::kWeightBytes, {model, version, info.method, element},
                 bytes(count));
    }
    page_->Set(metric::kStoredBytes, {model, version, info.method},
               bytes(info.stored_bytes));
    series_.EndOtherVersions(model, version);
    page_->Set(metric::kCheckpointBytes, {model}, bytes(info.checkpoint_bytes));
    page_->Set(metric::kSavedBytes, {model},
               bytes(info.checkpoint_bytes - info.stored_bytes));
    if (info.checkpoint_bytes > 0) {
      page_->Set(metric::kSavedRatio, {model},
                 1 - bytes(info.stored_bytes) / bytes(info.checkpoint_bytes));
    }
    for (const quant::QuantMethod* method : quant::AllMethods()) {
      StartRuns(model, std::string(method->name()));
    }
  }

  void OnModelRemoved(const std::string& model) override {
    series_.EndModel(model);
  }

  void OnQuantizeStage(const std::string& model, const std::string& method,
                       QuantizeStage stage) override {
    StartRuns(model, method);
    series_.Get(metric::kQuantizationDuration, {model, method});
    for (const QuantizeStage each : kStages) {
      page_->Set(metric::kQuantizationStage, {model, StageName(each)},
                 each == stage);
    }
  }

  void OnQuantizeDone(const std::string& model, const std::string& method,
                      const absl::Status& status,
                      absl::Duration duration) override {
    page_->Add(metric::kQuantizations, {model, method, RunOutcome(status)});
    if (status.ok()) {
      page_->Observe(metric::kQuantizationDuration, {model, method},
                     Seconds(duration));
    }
    series_.EndRun(model);
  }

  void OnRejected(const std::string& model, const absl::Status& why) override {
    page_->Add(metric::kRequests, {model, RejectedOutcome(why)});
  }
  void OnDetectRejected(const std::string& model,
                        const absl::Status& why) override {
    page_->Add(metric::kDetectRequests, {model, RejectedOutcome(why)});
  }
  void OnPictures(int64_t pictures, int64_t bytes) override {
    pictures_->Set(static_cast<double>(pictures));
    picture_bytes_->Set(static_cast<double>(bytes));
  }

  std::string Text() override {
    return prometheus::TextSerializer().Serialize(page_->Scrape());
  }

  absl::StatusOr<std::string> Listen(const std::string& address) override {
    const size_t colon = address.rfind(':');
    // The library reports a port in use, or no port at all, by an exception.
    try {
      exposer_ = std::make_unique<prometheus::Exposer>(address,
                                                       /*num_threads=*/2);
      exposer_->RegisterCollectable(page_);
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
  // All outcomes of the model's quantizations by `method` are there, at 0.
  void StartRuns(const std::string& model, const std::string& method) {
    for (const char* outcome : kRunOutcomes) {
      series_.Get(metric::kQuantizations, {model, method, outcome});
    }
  }

  const std::shared_ptr<Page> page_;
  Series& series_;  // of the page
  const std::unique_ptr<FigureSource> process_;
  const std::shared_ptr<prometheus::Gauge> pictures_;
  const std::shared_ptr<prometheus::Gauge> picture_bytes_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::string address_;  // its HOST:PORT
};

}  // namespace

std::unique_ptr<Metrics> Metrics::Create(const BuildInfo& build,
                                         const Clock& clock) {
  return std::make_unique<MetricsImpl>(build, clock);
}

}  // namespace ounce::server
