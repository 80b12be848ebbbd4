#include "server/service/detect_call.h"

#include <cstdint>
#include <utility>

#include "base/guard.h"
#include "ounce/v1/inference.pb.h"
#include "server/service/deadline.h"
#include "server/service/grpc_status.h"
#include "server/service/wire.h"

namespace ounce::server {
namespace {

v1::DetectObjectsResponse ToProto(DetectResult result) {
  v1::DetectObjectsResponse response;
  for (DetectedObject& object : result.objects) {
    v1::Detection* detection = response.add_detections();
    detection->set_label(std::move(object.label));
    detection->set_label_id(static_cast<int32_t>(object.label_id));
    detection->set_score(object.score);
    v1::BoundingBox* box = detection->mutable_box();
    box->set_x_min(object.x_min);
    box->set_y_min(object.y_min);
    box->set_x_max(object.x_max);
    box->set_y_max(object.y_max);
  }
  response.set_image_width(static_cast<int32_t>(result.image_width));
  response.set_image_height(static_cast<int32_t>(result.image_height));
  response.set_queue_seconds(absl::ToDoubleSeconds(result.queued));
  response.set_decode_seconds(absl::ToDoubleSeconds(result.decode));
  response.set_model_seconds(absl::ToDoubleSeconds(result.in_model));
  response.set_model_version(result.model_version);
  response.set_method(std::move(result.method));
  return response;
}

}  // namespace

absl::Status DetectCall::CheckWanted() const {
  if (GaveUpAtDeadline(deadline_, clock_.Now())) {
    return absl::DeadlineExceededError(
        "the deadline passed before the picture was read");
  }
  MutexLock lock(&mu_);
  if (gone_) return absl::CancelledError("the client cancelled the call");
  return absl::OkStatus();
}

void DetectCall::Refuse(const absl::Status& status) {
  Finish(ToGrpcStatus(status));
}

absl::Status DetectCall::Start(
    const std::shared_ptr<const ObjectDetection>& model, DetectParams params) {
  DetectScheduler& scheduler = *model->scheduler;
  {
    MutexLock lock(&mu_);
    model_ = model;
  }
  // The scheduler's share, and one to live to the end of this function.
  refs_ += 2;
  absl::StatusOr<DetectScheduler::RequestId> id;
  const absl::Status thrown = Guarded([&] {
    id = scheduler.Submit(std::move(params), this);
    return absl::OkStatus();
  });
  if (!thrown.ok()) id = thrown;
  bool gone = false;
  if (id.ok()) {
    MutexLock lock(&mu_);
    id_ = *id;
    gone = gone_;
  }
  if (!id.ok()) {
    Unref();
  } else if (gone) {
    scheduler.Cancel(*id, CheckWanted());
  }
  Unref();
  return id.status();
}

void DetectCall::OnDone(const absl::Status& status, DetectResult result) {
  if (status.ok()) {
    record_->Add([&](CallFacts& facts) {
      facts.version = result.model_version;
      facts.queued = result.queued;
    });
  }
  const absl::Status answered = Guarded([&] {
    if (status.ok()) *response_ = Serialize(ToProto(std::move(result)));
    return status;
  });
  Finish(ToGrpcStatus(answered));
  Unref();
}

void DetectCall::OnCancel() {
  std::shared_ptr<const ObjectDetection> model;
  std::optional<DetectScheduler::RequestId> id;
  {
    MutexLock lock(&mu_);
    gone_ = true;
    model = model_;
    id = id_;
  }
  if (id.has_value()) model->scheduler->Cancel(*id, CheckWanted());
}

void DetectCall::OnDone() {
  // Here and not in the destructor, which may run on the engine's thread: the
  // last user of a model joins that thread.
  std::shared_ptr<const ObjectDetection> model;
  {
    MutexLock lock(&mu_);
    model = std::move(model_);
  }
  calls_.Remove();
  Unref();
}

void DetectCall::Unref() {
  if (refs_.fetch_sub(1) == 1) delete this;
}

}  // namespace ounce::server
