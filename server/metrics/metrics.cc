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
#include "base/mapped_memory.h"
#include "base/mutex.h"
#include "server/metrics/families.h"
#include "server/metrics/model_metrics.h"

namespace ounce::server {
namespace {

using prometheus::Gauge;

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
        scrape_(std::make_shared<Scrape>(families_)),
        pictures_(families_->gauge(kPictures, {})),
        picture_bytes_(families_->gauge(kPictureBytes, {})) {
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
    return MakeSchedulerMetrics(families_, model);
  }
  std::unique_ptr<DetectObserver> ObserveDetection(
      const std::string& model) override {
    return MakeDetectMetrics(families_, model);
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
  void OnDetectRejected(const std::string& model,
                        const absl::Status& why) override {
    families_->counter(kDetectRequests, {model, RejectedOutcome(why)})
        .Increment();
  }
  void OnPictures(int64_t pictures, int64_t bytes) override {
    pictures_.Set(static_cast<double>(pictures));
    picture_bytes_.Set(static_cast<double>(bytes));
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
  Gauge& pictures_;
  Gauge& picture_bytes_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::string address_;  // its HOST:PORT

  Mutex mu_;
  // What OnModelChanged shows now, by model.
  std::map<std::string, std::vector<std::pair<MetricId, Gauge*>>> gauges_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::unique_ptr<Metrics> Metrics::Create(const BuildInfo& build) {
  return std::make_unique<MetricsImpl>(build);
}

}  // namespace ounce::server
