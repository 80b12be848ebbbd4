// One Generate call: what the engine says on one side, a gRPC stream on the
// other, and little in between.
//
//   engine's thread --OnChunk--> [ pending, bounded ] --StartWrite--> client
//
// While a message is being written, what comes next is merged into one pending
// message. When that is full the sequence pauses (HasRoom), alone; it goes on
// when the client has read.
//
// Threads: gRPC's call the reactor's half, the engine's the sink's half.
// Ownership: deletes itself when gRPC and the scheduler both have let go.
#ifndef OUNCE_SERVER_SERVICE_GENERATE_CALL_H_
#define OUNCE_SERVER_SERVICE_GENERATE_CALL_H_

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
#include "server/scheduler/request.h"
#include "server/service/call_count.h"
#include "server/service/call_record.h"

namespace ounce::server {

class GenerateCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                           public ResponseSink {
 public:
  // `clock` and `calls`, where it counts itself until gRPC has sent the last of
  // it, must outlive the call. `record` is told what the scheduler tells.
  GenerateCall(const Clock& clock, CallCount& calls,
               std::shared_ptr<CallRecord> record)
      : clock_(clock), calls_(calls), record_(std::move(record)) {
    calls_.Add();
  }

  // The scheduler's error when it refuses; then Refuse is to be called.
  absl::Status Start(const std::shared_ptr<const TextGeneration>& model,
                     GenerateParams params);
  // Tells the client; the last that is done to a call that did not start.
  void Refuse(const absl::Status& status);

  // ResponseSink
  bool HasRoom() const override;
  void OnChunk(GenerateChunk chunk) override;
  void OnDone(const absl::Status& status,
              const GenerateResult& result) override;

  // grpc::ServerWriteReactor
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  enum class Action { kWrite, kWriteAndFinish, kFinish };

  ~GenerateCall() override = default;

  // What the next write is to be, or the end; false: neither now.
  bool NextAction(Action* action, grpc::Status* status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Starts it, if nothing is under way.
  void Pump();
  // There is no memory for what comes: the call ends, and OnDone() stops the
  // sequence.
  void Abandon() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Unref();

  const Clock& clock_;
  CallCount& calls_;
  const std::shared_ptr<CallRecord> record_;
  std::atomic<int> refs_{1};  // gRPC's, and the scheduler's once accepted

  // Written by Start before the scheduler knows of the call, or by OnDone().
  mutable Mutex mu_;
  std::shared_ptr<const TextGeneration> model_ ABSL_GUARDED_BY(mu_);
  std::optional<GenerateScheduler::RequestId> id_ ABSL_GUARDED_BY(mu_);
  absl::Time deadline_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  SamplingParams sampling_ ABSL_GUARDED_BY(mu_);
  int64_t max_new_tokens_ ABSL_GUARDED_BY(mu_) = 0;

  GenerateChunk pending_ ABSL_GUARDED_BY(mu_);
  mutable bool paused_ ABSL_GUARDED_BY(mu_) = false;  // HasRoom said no
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;      // nobody reads any more
  bool done_ ABSL_GUARDED_BY(mu_) = false;      // the scheduler is
  bool finished_ ABSL_GUARDED_BY(mu_) = false;  // gRPC knows the end
  bool abandoned_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  GenerateResult result_ ABSL_GUARDED_BY(mu_);

  grpc::ByteBuffer outgoing_;  // gRPC's from StartWrite until OnWriteDone
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_GENERATE_CALL_H_
