// One picture in which objects are being found: between whoever asked for it
// and the scheduler.
//
// Threads: any thread may call anything. The engine's, or whoever cancels,
//   calls the sink.
// Ownership: shared by whoever asked, and by the front end and the scheduler
//   until it has ended.
#ifndef OUNCE_SERVER_FRONTEND_DETECTION_H_
#define OUNCE_SERVER_FRONTEND_DETECTION_H_

#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/frontend/call_count.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

class Detection final : public DetectSink,
                        public std::enable_shared_from_this<Detection> {
 public:
  // `sink` is told of refusals too, on the thread that asks or on one of the
  // front end's. Counts itself in `open` until Release; that and `clock` must
  // outlive it.
  Detection(std::shared_ptr<DetectSink> sink, const Clock& clock,
            CallCount& open)
      : clock_(clock), open_(open), sink_(std::move(sink)) {
    open_.Add();
  }

  // Nobody waits any more.
  void Cancel();
  // As Generation's.
  void Release();

  // DetectSink
  void OnDone(const absl::Status& status, DetectResult result) override;

 private:
  friend class FrontEnd;

  // An error when nobody wants the answer any more.
  absl::Status CheckWanted() const;
  // The scheduler's error when it refuses; then Refuse is to be called.
  absl::Status Submit(const std::shared_ptr<const ObjectDetection>& model,
                      DetectParams params);
  void Refuse(const absl::Status& status);

  const Clock& clock_;
  CallCount& open_;
  std::shared_ptr<DetectSink> sink_;  // until its end

  mutable Mutex mu_;
  std::shared_ptr<const ObjectDetection> model_ ABSL_GUARDED_BY(mu_);
  std::optional<DetectScheduler::RequestId> id_ ABSL_GUARDED_BY(mu_);
  absl::Time arrival_ ABSL_GUARDED_BY(mu_);
  absl::Time deadline_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  bool servers_deadline_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  std::shared_ptr<Detection> self_ ABSL_GUARDED_BY(mu_);  // the scheduler's
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_FRONTEND_DETECTION_H_
