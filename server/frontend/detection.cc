#include "server/frontend/detection.h"

#include <utility>

#include "base/guard.h"
#include "server/frontend/gave_up.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {

absl::Status Detection::CheckWanted() const {
  MutexLock lock(&mu_);
  if (EndedByDeadline(cancelled_, arrival_, deadline_, clock_.Now())) {
    return DeadlinePassed(servers_deadline_, "before the picture was read");
  }
  if (cancelled_) return absl::CancelledError("the client cancelled the call");
  return absl::OkStatus();
}

absl::Status Detection::Submit(
    const std::shared_ptr<const ObjectDetection>& model, DetectParams params) {
  const std::shared_ptr<Detection> self = shared_from_this();
  DetectScheduler& scheduler = *model->scheduler;
  {
    MutexLock lock(&mu_);
    model_ = model;
    self_ = self;
  }
  const absl::StatusOr<DetectScheduler::RequestId> id =
      Guarded([&] { return scheduler.Submit(std::move(params), this); });
  bool cancelled = false;
  {
    MutexLock lock(&mu_);
    if (id.ok()) {
      id_ = *id;
      cancelled = cancelled_;
    } else {
      self_ = nullptr;
    }
  }
  if (cancelled) scheduler.Cancel(*id, CheckWanted());
  return id.status();
}

void Detection::Refuse(const absl::Status& status) {
  std::exchange(sink_, nullptr)->OnDone(status, DetectResult());
}

void Detection::OnDone(const absl::Status& status, DetectResult result) {
  std::shared_ptr<Detection> self;
  {
    MutexLock lock(&mu_);
    self = std::move(self_);
  }
  std::exchange(sink_, nullptr)->OnDone(status, std::move(result));
}

void Detection::Cancel() {
  std::shared_ptr<const ObjectDetection> model;
  std::optional<DetectScheduler::RequestId> id;
  {
    MutexLock lock(&mu_);
    cancelled_ = true;
    model = model_;
    id = id_;
  }
  if (id.has_value() && model != nullptr) {
    model->scheduler->Cancel(*id, CheckWanted());
  }
}

void Detection::Release() {
  std::shared_ptr<const ObjectDetection> model;
  {
    MutexLock lock(&mu_);
    model = std::move(model_);
  }
  open_.Remove();
}

}  // namespace ounce::server
