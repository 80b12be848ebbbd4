// A detector's engine without a model: what it finds in a picture is the
// picture's own width, so that answers in the wrong hands show. Batches run
// freely, or one by one when the test says so.
#ifndef OUNCE_TESTS_TESTING_FAKE_DETECT_ENGINE_H_
#define OUNCE_TESTS_TESTING_FAKE_DETECT_ENGINE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "base/mutex.h"
#include "server/scheduler/detect_engine.h"
#include "server/scheduler/detect_request.h"

namespace ounce::testing {

inline constexpr absl::Duration kDetectPatience = absl::Seconds(30);

class FakeDetectEngine final : public server::DetectEngine {
 public:
  explicit FakeDetectEngine(server::DetectEngineInfo info = {1, "fake"})
      : info_(std::move(info)) {}
  ~FakeDetectEngine() override {
    if (on_destroyed_) on_destroyed_();
  }

  const server::DetectEngineInfo& info() const override { return info_; }

  absl::Status Run(absl::Span<const server::DetectItem> items,
                   server::DetectBatch* batch) override {
    std::vector<int64_t> widths;
    for (const server::DetectItem& item : items) {
      widths.push_back(item.picture->rgb.width());
    }
    absl::Status outcome;
    {
      MutexLock lock(&mu_);
      batches_.push_back(widths);
      waiting_ = true;
      changed_.SignalAll();
      while (holding_ && !go_.has_value()) changed_.Wait(&mu_);
      waiting_ = false;
      if (go_.has_value()) outcome = *std::exchange(go_, std::nullopt);
    }
    batch->objects.clear();
    batch->waited = absl::ZeroDuration();
    batch->in_model = absl::Milliseconds(3);
    for (const server::DetectItem& item : items) {
      const int64_t width = item.picture->rgb.width();
      batch->objects.push_back(
          {{.label = absl::StrCat("width ", width),
            .label_id = width,
            .score = (1 + item.threshold) / 2,
            .x_min = 1,
            .y_min = 2,
            .x_max = static_cast<float>(item.picture->original_width),
            .y_max = static_cast<float>(item.picture->original_height)}});
    }
    return outcome;
  }

  void ReleaseMemory() override {
    MutexLock lock(&mu_);
    ++num_releases_;
    changed_.SignalAll();
  }

  // From now on every batch waits for the test.
  void Hold() {
    MutexLock lock(&mu_);
    holding_ = true;
  }
  // The widths of the pictures of the batch that waits; waits for it.
  std::vector<int64_t> AwaitBatch() {
    MutexLock lock(&mu_);
    const absl::Time end = absl::Now() + kDetectPatience;
    while (!waiting_) {
      OUNCE_CHECK(absl::Now() < end, "no batch came");
      changed_.WaitFor(&mu_, absl::Milliseconds(100));
    }
    return batches_.back();
  }
  // Lets the batch that waits go on, with this outcome.
  void Finish(absl::Status outcome = absl::OkStatus()) {
    MutexLock lock(&mu_);
    go_ = std::move(outcome);
    waiting_ = false;
    changed_.SignalAll();
  }
  // Undoes Hold.
  void Free() {
    MutexLock lock(&mu_);
    holding_ = false;
    changed_.SignalAll();
  }

  std::vector<std::vector<int64_t>> batches() const {
    MutexLock lock(&mu_);
    return batches_;
  }
  int num_releases() const {
    MutexLock lock(&mu_);
    return num_releases_;
  }
  // Called in the destructor.
  void set_on_destroyed(std::function<void()> fn) {
    on_destroyed_ = std::move(fn);
  }

 private:
  const server::DetectEngineInfo info_;
  std::function<void()> on_destroyed_;

  mutable Mutex mu_;
  CondVar changed_;
  bool holding_ ABSL_GUARDED_BY(mu_) = false;
  bool waiting_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<absl::Status> go_ ABSL_GUARDED_BY(mu_);
  std::vector<std::vector<int64_t>> batches_ ABSL_GUARDED_BY(mu_);
  int num_releases_ ABSL_GUARDED_BY(mu_) = 0;
};

// Keeps what it is told.
class RecordingDetectSink final : public server::DetectSink {
 public:
  void OnDone(const absl::Status& status,
              server::DetectResult result) override {
    if (on_done_) on_done_();
    MutexLock lock(&mu_);
    ++times_done_;
    status_ = status;
    result_ = std::move(result);
    changed_.SignalAll();
  }

  // Called first thing in OnDone.
  void set_on_done(std::function<void()> fn) { on_done_ = std::move(fn); }

  // Waits for OnDone; false after 30 s.
  bool AwaitDone() {
    MutexLock lock(&mu_);
    const absl::Time end = absl::Now() + kDetectPatience;
    while (times_done_ == 0 && absl::Now() < end) {
      changed_.WaitFor(&mu_, absl::Milliseconds(100));
    }
    return times_done_ == 1;
  }
  int times_done() const {
    MutexLock lock(&mu_);
    return times_done_;
  }
  absl::Status status() const {
    MutexLock lock(&mu_);
    return status_;
  }
  server::DetectResult result() const {
    MutexLock lock(&mu_);
    return result_;
  }

 private:
  mutable Mutex mu_;
  CondVar changed_;
  std::function<void()> on_done_;
  int times_done_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  server::DetectResult result_ ABSL_GUARDED_BY(mu_);
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_FAKE_DETECT_ENGINE_H_
