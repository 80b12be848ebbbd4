#include "server/service/detect_call.h"

#include <cstdint>
#include <utility>

#include "base/guard.h"
#include "ounce/v1/inference.pb.h"
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

std::shared_ptr<DetectCall> DetectCall::Create(
    FrontEnd& front_end, grpc::ByteBuffer* response,
    std::shared_ptr<CallRecord> record) {
  std::shared_ptr<DetectCall> call(new DetectCall(response, std::move(record)));
  call->detection_ = front_end.BeginDetect(call);
  MutexLock lock(&call->mu_);
  call->self_ = call;
  return call;
}

void DetectCall::OnDone(const absl::Status& status, DetectResult result) {
  record_->AddResult(status, result);
  const absl::Status answered = Guarded([&] {
    if (status.ok()) *response_ = Serialize(ToProto(std::move(result)));
    return status;
  });
  Finish(ToGrpcStatus(answered));
}

void DetectCall::OnDone() {
  detection_->Release();
  std::shared_ptr<DetectCall> self;  // freed after the lock is
  MutexLock lock(&mu_);
  self = std::move(self_);
}

}  // namespace ounce::server
