// A CatalogObserver that writes down what it hears, a line per event.
#ifndef OUNCE_TESTS_SERVER_ENGINE_RECORDING_CATALOG_OBSERVER_H_
#define OUNCE_TESTS_SERVER_ENGINE_RECORDING_CATALOG_OBSERVER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

class CountingSchedulerObserver final : public SchedulerObserver {
 public:
  explicit CountingSchedulerObserver(std::atomic<int64_t>& preempted)
      : preempted_(preempted) {}
  void OnFirstToken(absl::Duration) override {}
  void OnTokens(int64_t, int64_t) override {}
  void OnPrefixCache(int64_t, int64_t, int64_t) override {}
  void OnPreempted(int64_t sequences) override { preempted_ += sequences; }
  void OnDone(const absl::Status&, FinishReason,
              const GenerateResult&) override {}
  void OnStats(const SchedulerStats&) override {}

 private:
  std::atomic<int64_t>& preempted_;
};

class SilentDetectObserver final : public DetectObserver {
 public:
  void OnBatch(int64_t, absl::Duration) override {}
  void OnDone(const absl::Status&, const DetectResult&) override {}
  void OnStats(const DetectStats&) override {}
};

class RecordingCatalogObserver final : public CatalogObserver {
 public:
  std::unique_ptr<SchedulerObserver> ObserveScheduler(
      const std::string& model) override {
    Add("observe " + model);
    return std::make_unique<CountingSchedulerObserver>(preempted_);
  }
  std::unique_ptr<DetectObserver> ObserveDetection(
      const std::string& model) override {
    Add("observe detection of " + model);
    return std::make_unique<SilentDetectObserver>();
  }
  void OnModelChanged(const ModelInfo& info) override {
    static constexpr const char* kStates[] = {"loading", "ready", "quantizing",
                                              "unloading"};
    Add(absl::StrCat(info.name, " ", kStates[static_cast<int>(info.state)],
                     " v", info.version));
  }
  void OnModelRemoved(const std::string& model) override {
    Add(model + " removed");
  }
  void OnQuantizeStage(const std::string& model, const std::string& /*method*/,
                       QuantizeStage stage) override {
    static constexpr const char* kStages[] = {
        "reading", "waiting", "quantizing tensors", "evaluating", "swapping"};
    Add(absl::StrCat(model, " ", kStages[static_cast<int>(stage)]));
  }
  void OnQuantizeDone(const std::string& model, const std::string& method,
                      const absl::Status& status,
                      absl::Duration /*duration*/) override {
    Add(absl::StrCat(model, " ", method, " done ",
                     absl::StatusCodeToString(status.code())));
  }
  void OnSaveDone(const std::string& model, const absl::Status& status,
                  int64_t weight_bytes, absl::Duration /*duration*/) override {
    Add(absl::StrCat(model, " saved ", absl::StatusCodeToString(status.code()),
                     weight_bytes > 0 ? "" : " without weights"));
  }
  void OnEvaluated(const std::string& model,
                   const TextQuality& quality) override {
    Add(absl::StrCat(model, " evaluated v", quality.version));
  }
  void OnDetectionEvaluated(const std::string& model,
                            const DetectionQuality& quality) override {
    Add(absl::StrCat(model, " evaluated v", quality.version));
  }

  std::vector<std::string> events() const {
    MutexLock lock(&mu_);
    return events_;
  }
  // Sequences of all models that lost their KV blocks.
  int64_t preempted() const { return preempted_; }

 private:
  void Add(std::string event) {
    MutexLock lock(&mu_);
    events_.push_back(std::move(event));
  }

  std::atomic<int64_t> preempted_{0};

  mutable Mutex mu_;
  std::vector<std::string> events_ ABSL_GUARDED_BY(mu_);
};

}  // namespace ounce::server

#endif  // OUNCE_TESTS_SERVER_ENGINE_RECORDING_CATALOG_OBSERVER_H_
