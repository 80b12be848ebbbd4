#include "server/scheduler/detect_scheduler.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/thread.h"
#include "server/scheduler/fair_queue.h"
#include "server/scheduler/refusal.h"
#include "server/scheduler/work_speed.h"

namespace ounce::server {
namespace {

// One request, from Submit to OnDone.
struct Request {
  Request(DetectParams request, DetectSink* request_sink)
      : params(std::move(request)), sink(request_sink) {}

  const std::string& peer() const { return params.peer; }

  double num_pixels() const {
    return static_cast<double>(params.picture.num_pixels());
  }

  DetectScheduler::RequestId id = 0;
  DetectParams params;
  DetectSink* const sink;
  absl::Time queued;
  absl::Status why;  // not OK: nobody wants the answer
};

class Scheduler final : public DetectScheduler {
 public:
  Scheduler(const Options& options, std::shared_ptr<DetectEngine> engine,
            const Clock& clock, DetectObserver& observer);
  ~Scheduler() override;

  absl::Status Start();

  absl::StatusOr<RequestId> Submit(DetectParams params,
                                   DetectSink* sink) override;
  void Cancel(RequestId id, const absl::Status& why) override;
  void SetEngine(std::shared_ptr<DetectEngine> engine) override;
  bool Drain(absl::Time deadline) override;
  DetectStats stats() const override;

 private:
  // Whether its answer can come before the deadline.
  absl::Status CheckTime(const Request& newcomer) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  void Loop();

  // Waits for a batch and makes it the running one, ending the dead meanwhile;
  // the engine that it goes to, or null at the end.
  std::shared_ptr<DetectEngine> NextBatch();
  void RunBatch(std::shared_ptr<DetectEngine> engine);

  // Takes those out of the queue whose time is over.
  std::vector<std::unique_ptr<Request>> TakeTheDead()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // How many of the queue make the next batch, and whether more than these
  // would be too many.
  std::pair<int64_t, bool> MeasureBatch() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The first deadline, and when the oldest has come.
  std::pair<absl::Time, absl::Time> NextDeadlineAndOldest() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SleepUntil(absl::Time time) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  void End(std::unique_ptr<Request> request, const absl::Status& status,
           DetectResult result);
  void Finish() ABSL_LOCKS_EXCLUDED(mu_);

  // Constant.
  const Options options_;
  const Clock& clock_;
  DetectObserver& observer_;

  // The engine thread's own.
  std::vector<DetectItem> items_;
  DetectBatch batch_;

  mutable Mutex mu_;
  CondVar work_;     // the engine thread waits here
  CondVar drained_;  // Drain waits here
  FairQueue<Request> queue_ ABSL_GUARDED_BY(mu_);
  // By the engine thread alone but for `why`, which anyone may set.
  std::vector<std::unique_ptr<Request>> running_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<DetectEngine> engine_ ABSL_GUARDED_BY(mu_);
  RequestId next_id_ ABSL_GUARDED_BY(mu_) = 1;
  int64_t num_unfinished_ ABSL_GUARDED_BY(mu_) = 0;  // until OnDone returns
  WorkSpeed speed_ ABSL_GUARDED_BY(mu_);             // of batches
  absl::Time batch_start_ ABSL_GUARDED_BY(mu_);
  absl::Time last_batch_ ABSL_GUARDED_BY(mu_);
  int64_t num_detected_ ABSL_GUARDED_BY(mu_) = 0;
  bool holds_memory_ ABSL_GUARDED_BY(mu_) = false;  // a batch ran since
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool aborting_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  DetectStats told_ ABSL_GUARDED_BY(mu_);

  std::thread thread_;
};

Scheduler::Scheduler(const Options& options,
                     std::shared_ptr<DetectEngine> engine, const Clock& clock,
                     DetectObserver& observer)
    : options_(options),
      clock_(clock),
      observer_(observer),
      engine_(std::move(engine)) {
  OUNCE_CHECK(options_.max_queued >= 1 && options_.max_batch_pictures >= 1,
              "limits of a scheduler start at 1");
  observer_.OnStats({});
}

absl::Status Scheduler::Start() {
  ASSIGN_OR_RETURN(thread_, StartThread("ounce-detect", [this] { Loop(); }));
  return absl::OkStatus();
}

Scheduler::~Scheduler() {
  {
    MutexLock lock(&mu_);
    draining_ = true;
    aborting_ = true;
    stopping_ = true;
  }
  work_.Signal();
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<DetectScheduler::RequestId> Scheduler::Submit(
    DetectParams params, DetectSink* sink) {
  auto request = std::make_unique<Request>(std::move(params), sink);
  request->queued = clock_.Now();
  RequestId id;
  {
    MutexLock lock(&mu_);
    if (draining_) {
      return NotServedAnyMore();
    }
    RETURN_IF_ERROR(CheckTime(*request));
    id = next_id_++;
    request->id = id;
    if (!queue_.PushWithin(options_.max_queued, request)) {
      return Refusal(
          Reason::kQueueFull,
          absl::StrCat("the queue is full: ", queue_.size(), " pictures wait"));
    }
    ++num_unfinished_;
    Publish();
  }
  work_.Signal();
  if (std::unique_ptr<Request> displaced = std::move(request)) {
    End(std::move(displaced),
        Refusal(Reason::kCallerShareFull,
                "the queue is full, and this caller has most in it"),
        {});
  }
  return id;
}

absl::Status Scheduler::CheckTime(const Request& newcomer) const {
  const absl::Time deadline = newcomer.params.deadline;
  if (deadline == absl::InfiniteFuture()) return absl::OkStatus();
  const absl::Time now = clock_.Now();
  double pixels = 0;
  for (const auto& request : running_) pixels += request->num_pixels();
  const absl::Duration running =
      running_.empty()
          ? absl::ZeroDuration()
          : speed_.AtLeast(static_cast<double>(running_.size()), pixels, now) -
                (now - batch_start_);
  double pictures = 1;
  pixels = newcomer.num_pixels();
  queue_.ForEachAhead(newcomer.peer(), [&](const Request& other) {
    ++pictures;
    pixels += other.num_pixels();
  });
  return CheckInTime("the answer",
                     std::max(running, absl::ZeroDuration()) +
                         speed_.AtLeast(pictures, pixels, now),
                     deadline - now);
}

void Scheduler::Cancel(RequestId id, const absl::Status& why) {
  std::vector<std::unique_ptr<Request>> cancelled;
  {
    MutexLock lock(&mu_);
    for (const std::unique_ptr<Request>& request : running_) {
      if (request->id == id) request->why = why;
    }
    cancelled = queue_.TakeIf(
        [id](const Request& request) { return request.id == id; });
    Publish();
  }
  for (std::unique_ptr<Request>& request : cancelled) {
    End(std::move(request), why, {});
  }
}

void Scheduler::SetEngine(std::shared_ptr<DetectEngine> engine) {
  MutexLock lock(&mu_);
  // The old one may be freed here: `engine` holds it until the lock is gone.
  if (!(draining_ && num_unfinished_ == 0)) engine_.swap(engine);
}

bool Scheduler::Drain(absl::Time deadline) {
  std::shared_ptr<DetectEngine> last;  // freed after the lock is
  MutexLock lock(&mu_);
  draining_ = true;
  work_.Signal();
  while (num_unfinished_ > 0) {
    const absl::Duration left = deadline - clock_.Now();
    if (left <= absl::ZeroDuration()) break;
    drained_.WaitFor(&mu_, left);
  }
  if (num_unfinished_ > 0) {
    aborting_ = true;
    work_.Signal();
  }
  while (num_unfinished_ > 0) drained_.Wait(&mu_);
  last.swap(engine_);
  holds_memory_ = false;
  return !aborting_;
}

DetectStats Scheduler::stats() const {
  MutexLock lock(&mu_);
  return told_;
}

void Scheduler::Publish() {
  const DetectStats now = {.queued = queue_.size(),
                           .running = static_cast<int64_t>(running_.size()),
                           .detected = num_detected_};
  if (now == told_) return;
  told_ = now;
  observer_.OnStats(now);
}

void Scheduler::Loop() {
  while (std::shared_ptr<DetectEngine> engine = NextBatch()) {
    RunBatch(std::move(engine));
  }
}

std::shared_ptr<DetectEngine> Scheduler::NextBatch() {
  while (true) {
    std::vector<std::unique_ptr<Request>> dead;
    std::shared_ptr<DetectEngine> idle;
    {
      MutexLock lock(&mu_);
      const absl::Time now = clock_.Now();
      dead = TakeTheDead();
      if (dead.empty() && !queue_.empty()) {
        const auto [count, is_full] = MeasureBatch();
        const auto [deadline, oldest] = NextDeadlineAndOldest();
        const absl::Time start = oldest + options_.max_wait;
        if (is_full || draining_ || now >= start) {
          items_.clear();
          for (int64_t i = 0; i < count; ++i) {
            running_.push_back(queue_.TakeNext());
            const DetectParams& params = running_.back()->params;
            items_.push_back(
                {&params.picture, params.threshold, params.max_detections});
          }
          batch_start_ = now;
          Publish();
          return engine_;
        }
        SleepUntil(std::min(start, deadline));
      } else if (dead.empty()) {
        if (stopping_) return nullptr;
        if (holds_memory_ && now >= last_batch_ + options_.max_idle) {
          holds_memory_ = false;
          idle = engine_;
          ++num_unfinished_;  // Drain waits for this too
        } else {
          SleepUntil(holds_memory_ ? last_batch_ + options_.max_idle
                                   : absl::InfiniteFuture());
        }
      }
    }
    for (std::unique_ptr<Request>& request : dead) {
      const absl::Status why = request->why;
      End(std::move(request), why, {});
    }
    if (idle != nullptr) {
      idle->ReleaseMemory();
      idle = nullptr;
      Finish();
    }
  }
}

void Scheduler::RunBatch(std::shared_ptr<DetectEngine> engine) {
  const absl::Time start = clock_.Now();
  const absl::Status status = engine->Run(items_, &batch_);
  const DetectEngineInfo info = engine->info();
  engine = nullptr;  // before anyone hears of the end
  if (status.ok()) {
    observer_.OnBatch(static_cast<int64_t>(items_.size()), batch_.in_model);
  }
  const absl::Time now = clock_.Now();
  std::vector<std::unique_ptr<Request>> done;
  {
    MutexLock lock(&mu_);
    done.swap(running_);
    if (status.ok()) {
      double pixels = 0;
      for (const auto& request : done) pixels += request->num_pixels();
      speed_.Note(static_cast<double>(done.size()), pixels, now - batch_start_,
                  now);
      num_detected_ += static_cast<int64_t>(done.size());
    }
    last_batch_ = now;
    holds_memory_ = true;
    Publish();
  }
  for (size_t i = 0; i < done.size(); ++i) {
    Request& request = *done[i];
    if (request.why.ok()) request.why = status;
    if (request.why.ok() && request.params.deadline <= now) {
      request.why = DeadlinePassed(request.params.servers_deadline,
                                   "while the model ran");
    }
    DetectResult result;
    if (request.why.ok()) result.objects = std::move(batch_.objects[i]);
    if (status.ok()) {
      result.began = start + batch_.waited - request.params.arrival;
      result.in_model = batch_.in_model;
      result.model_version = info.model_version;
      result.method = info.method;
    }
    const absl::Status why = request.why;
    End(std::move(done[i]), why, std::move(result));
  }
}

std::vector<std::unique_ptr<Request>> Scheduler::TakeTheDead() {
  const absl::Time now = clock_.Now();
  const bool aborting = aborting_;
  std::vector<std::unique_ptr<Request>> dead =
      queue_.TakeIf([&](Request& request) {
        if (request.params.deadline <= now) {
          request.why = DeadlinePassed(request.params.servers_deadline,
                                       "while the picture waited for the "
                                       "model");
        } else if (aborting) {
          request.why = NotServedAnyMore();
        }
        return !request.why.ok();
      });
  Publish();
  return dead;
}

std::pair<int64_t, bool> Scheduler::MeasureBatch() const {
  int64_t count = 0;
  int64_t pixels = 0;
  queue_.ForEach([&](const Request& request) {
    pixels += request.params.picture.num_pixels();
    if (count > 0 && pixels > options_.max_batch_pixels) return false;
    return ++count < options_.max_batch_pictures;
  });
  return {count, count == options_.max_batch_pictures ||
                     count < queue_.size() ||
                     pixels >= options_.max_batch_pixels};
}

std::pair<absl::Time, absl::Time> Scheduler::NextDeadlineAndOldest() const {
  absl::Time deadline = absl::InfiniteFuture();
  absl::Time oldest = absl::InfiniteFuture();
  queue_.ForEach([&](const Request& request) {
    deadline = std::min(deadline, request.params.deadline);
    oldest = std::min(oldest, request.queued);
    return true;
  });
  return {deadline, oldest};
}

void Scheduler::SleepUntil(absl::Time time) {
  const absl::Duration left = time - clock_.Now();
  if (left > absl::ZeroDuration()) {
    work_.WaitFor(&mu_, left);
  }
}

// Memory and metrics first, so that whoever hears of the end sees it
// everywhere.
void Scheduler::End(std::unique_ptr<Request> request,
                    const absl::Status& status, DetectResult result) {
  const DetectParams& params = request->params;
  result.image_height = params.picture.original_height;
  result.image_width = params.picture.original_width;
  result.read = request->queued - params.arrival;
  result.decode = params.decode;
  result.total = clock_.Now() - params.arrival;
  result.queued = std::max(result.total - result.decode - result.in_model,
                           absl::ZeroDuration());
  DetectSink* const sink = request->sink;
  request = nullptr;
  observer_.OnDone(status, result);
  sink->OnDone(status, std::move(result));
  Finish();
}

void Scheduler::Finish() {
  MutexLock lock(&mu_);
  if (--num_unfinished_ == 0) drained_.SignalAll();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DetectScheduler>> DetectScheduler::Create(
    const Options& options, std::shared_ptr<DetectEngine> engine,
    const Clock& clock, DetectObserver& observer) {
  auto scheduler =
      std::make_unique<Scheduler>(options, std::move(engine), clock, observer);
  RETURN_IF_ERROR(scheduler->Start());
  return scheduler;
}

}  // namespace ounce::server
