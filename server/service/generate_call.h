// One Generate call: what the front end says on one side, a gRPC stream on the
// other, and little in between.
//
//   engine's thread --OnChunk--> [ pending, bounded ] --StartWrite--> client
//
// While a message is being written, what comes next is merged into one pending
// message. When that is full the sequence pauses (HasRoom), alone; it goes on
// when the client has read.
//
// Threads: gRPC's call the reactor's half, the engine's the sink's half.
// Ownership: shared by gRPC, until it has sent the end, and the front end.
#ifndef OUNCE_SERVER_SERVICE_GENERATE_CALL_H_
#define OUNCE_SERVER_SERVICE_GENERATE_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "server/frontend/front_end.h"
#include "server/frontend/generation.h"
#include "server/service/call_record.h"

namespace ounce::server {

class GenerateCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                           public GenerateSink {
 public:
  // `front_end` must outlive the call. `record` is told how it went.
  static std::shared_ptr<GenerateCall> Create(
      FrontEnd& front_end, std::shared_ptr<CallRecord> record);

  const std::shared_ptr<Generation>& generation() const { return generation_; }

  // GenerateSink
  bool HasRoom() const override;
  void OnChunk(GenerateChunk chunk) override;
  void OnDone(const absl::Status& status,
              const GenerateOutcome& outcome) override;

  // grpc::ServerWriteReactor
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  enum class Action { kWrite, kWriteAndFinish, kFinish };

  explicit GenerateCall(std::shared_ptr<CallRecord> record)
      : record_(std::move(record)) {}

  // What the next write is to be, or the end; false: neither now.
  bool NextAction(Action* action, grpc::Status* status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Starts it, if nothing is under way.
  void Pump();
  // There is no memory for what comes: the call ends, and OnDone() stops the
  // sequence.
  void Abandon() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::shared_ptr<CallRecord> record_;
  std::shared_ptr<Generation> generation_;  // set once, by Create

  mutable Mutex mu_;
  GenerateChunk pending_ ABSL_GUARDED_BY(mu_);
  mutable bool paused_ ABSL_GUARDED_BY(mu_) = false;  // HasRoom said no
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;      // nobody reads any more
  bool done_ ABSL_GUARDED_BY(mu_) = false;      // the front end is
  bool finished_ ABSL_GUARDED_BY(mu_) = false;  // gRPC knows the end
  bool abandoned_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  GenerateOutcome outcome_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<GenerateCall> self_ ABSL_GUARDED_BY(mu_);  // until OnDone()

  grpc::ByteBuffer outgoing_;  // gRPC's from StartWrite until OnWriteDone
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_GENERATE_CALL_H_
