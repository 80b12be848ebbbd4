// One ModelStreamInfer: requests on one side of a stream, and what comes of
// them on the other, one request after the other.
//
//   read a request --> front end --> [ pending, bounded ] --> write --+
//     ^                                                               |
//     +---------------------- after its last response ----------------+
//
// So a client may send as many as it likes, and they wait in its own part of
// the connection. A request that fails is answered by a response with an
// error_message and the stream goes on; with the header triton_grpc_error it
// ends with the error as its status.
//
// Threads: gRPC's call the reactor's half, the engine's (or whoever cancels)
//   the sinks'.
// Ownership: shared by gRPC, until it has sent the end, and the front end.
#ifndef OUNCE_SERVER_SERVICE_OIP_STREAM_H_
#define OUNCE_SERVER_SERVICE_OIP_STREAM_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "server/frontend/generation.h"
#include "server/service/call_record.h"
#include "server/service/oip_reader.h"
#include "server/service/oip_request.h"

namespace ounce::server {

class OipStream final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
      public GenerateSink,
      public DetectSink {
 public:
  // Begins it. `reader` must outlive the call.
  static grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Start(
      OipReader& reader, grpc::CallbackServerContext& context);

  // GenerateSink
  bool HasRoom() const override;
  void OnChunk(GenerateChunk chunk) override;
  void OnDone(const absl::Status& status,
              const GenerateOutcome& outcome) override;
  // DetectSink
  void OnDone(const absl::Status& status, DetectResult result) override;

  // grpc::ServerBidiReactor
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // Of the request that is being answered.
  struct Current {
    OipAnswer answer;
    std::string id;  // the request's, also if no more of it could be read
    OipRun run;
    std::string pending;  // text that is not written yet
    bool done = false;    // nothing more comes
    absl::Status status;  // and how it ended
    GenerateOutcome outcome;
    DetectResult objects;
  };

  OipStream(OipReader& reader, grpc::CallbackServerContext& context);

  // Has the front end begin what was read.
  absl::Status Begin();
  // It is over, without or with an answer from the front end.
  void End(const absl::Status& status);
  // Writes what there is to write, if nothing is being written; or ends all.
  void Pump();
  // What comes next: nothing, a response, or the end.
  enum class Action { kNone, kWrite, kFinish };
  Action NextAction(grpc::Status* status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  inference::ModelStreamInferResponse Last() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // There is no memory for what comes: the call ends.
  void Abandon() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  OipReader& reader_;
  grpc::CallbackServerContext& context_;      // gRPC's, until OnDone()
  const std::shared_ptr<CallRecord> record_;  // of its last request
  const bool errors_end_it_;

  mutable Mutex mu_;
  Current current_ ABSL_GUARDED_BY(mu_);
  mutable bool paused_ ABSL_GUARDED_BY(mu_) = false;  // HasRoom said no
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool last_ ABSL_GUARDED_BY(mu_) = false;  // what is written ends a request
  bool gone_ ABSL_GUARDED_BY(mu_) = false;  // nobody reads any more
  bool abandoned_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;            // gRPC knows the end
  std::shared_ptr<OipStream> self_ ABSL_GUARDED_BY(mu_);  // until OnDone()

  grpc::ByteBuffer incoming_;  // gRPC's from StartRead until OnReadDone
  grpc::ByteBuffer outgoing_;  // gRPC's from StartWrite until OnWriteDone
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_OIP_STREAM_H_
