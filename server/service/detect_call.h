// One DetectObjects call.
//
// Threads: gRPC's call the reactor's half, the engine's (or whoever cancels)
//   the sink's half.
// Ownership: shared by gRPC, until it has sent the answer, and the front end.
#ifndef OUNCE_SERVER_SERVICE_DETECT_CALL_H_
#define OUNCE_SERVER_SERVICE_DETECT_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "server/frontend/detection.h"
#include "server/frontend/front_end.h"
#include "server/service/call_record.h"

namespace ounce::server {

class DetectCall final : public grpc::ServerUnaryReactor, public DetectSink {
 public:
  // `response` is gRPC's; `front_end` must outlive the call. `record` is told
  // how it went.
  static std::shared_ptr<DetectCall> Create(FrontEnd& front_end,
                                            grpc::ByteBuffer* response,
                                            std::shared_ptr<CallRecord> record);

  const std::shared_ptr<Detection>& detection() const { return detection_; }

  // DetectSink
  void OnDone(const absl::Status& status, DetectResult result) override;

  // grpc::ServerUnaryReactor
  void OnCancel() override { detection_->Cancel(); }
  void OnDone() override;

 private:
  DetectCall(grpc::ByteBuffer* response, std::shared_ptr<CallRecord> record)
      : response_(response), record_(std::move(record)) {}

  grpc::ByteBuffer* const response_;  // gRPC's; ours until Finish
  const std::shared_ptr<CallRecord> record_;
  std::shared_ptr<Detection> detection_;  // set once, by Create

  Mutex mu_;
  std::shared_ptr<DetectCall> self_ ABSL_GUARDED_BY(mu_);  // until OnDone()
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_DETECT_CALL_H_
