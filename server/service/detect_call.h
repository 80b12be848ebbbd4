// One DetectObjects call: a picture that is read on a worker's thread, then
// waits for the model.
//
// Threads: gRPC's call the reactor's half, the engine's (or whoever cancels)
//   the sink's half, a worker's Refuse and Start.
// Ownership: deletes itself when gRPC and the scheduler both have let go.
#ifndef OUNCE_SERVER_SERVICE_DETECT_CALL_H_
#define OUNCE_SERVER_SERVICE_DETECT_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/scheduler/model_catalog.h"
#include "server/service/call_count.h"
#include "server/service/call_record.h"

namespace ounce::server {

class DetectCall final : public grpc::ServerUnaryReactor, public DetectSink {
 public:
  // `clock` and `calls`, where it counts itself until gRPC has sent the answer,
  // must outlive the call. `record` is told what the scheduler tells.
  DetectCall(absl::Time deadline, grpc::ByteBuffer* response,
             const Clock& clock, CallCount& calls,
             std::shared_ptr<CallRecord> record)
      : deadline_(deadline),
        response_(response),
        clock_(clock),
        calls_(calls),
        record_(std::move(record)) {
    calls_.Add();
  }

  // An error when nobody wants the answer any more.
  absl::Status CheckWanted() const;

  // Tells the client; the last that is done to the call, unless Start went
  // well.
  void Refuse(const absl::Status& status);
  // The scheduler's error when it refuses.
  absl::Status Start(const std::shared_ptr<const ObjectDetection>& model,
                     DetectParams params);

  // DetectSink
  void OnDone(const absl::Status& status, DetectResult result) override;

  // grpc::ServerUnaryReactor
  void OnCancel() override;
  void OnDone() override;

 private:
  ~DetectCall() override = default;
  void Unref();

  const absl::Time deadline_;
  grpc::ByteBuffer* const response_;  // gRPC's; ours until Finish
  const Clock& clock_;
  CallCount& calls_;
  const std::shared_ptr<CallRecord> record_;
  std::atomic<int> refs_{1};  // gRPC's, and the scheduler's once accepted

  mutable Mutex mu_;
  std::shared_ptr<const ObjectDetection> model_ ABSL_GUARDED_BY(mu_);
  std::optional<DetectScheduler::RequestId> id_ ABSL_GUARDED_BY(mu_);
  bool gone_ ABSL_GUARDED_BY(mu_) = false;  // nobody waits any more
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_DETECT_CALL_H_
