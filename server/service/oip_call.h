// One ModelInfer: a request for text or for objects, answered as a whole.
//
// Threads: gRPC's call the reactor's half, the engine's (or whoever cancels)
//   the sinks'.
// Ownership: shared by gRPC, until it has sent the answer, and the front end.
#ifndef OUNCE_SERVER_SERVICE_OIP_CALL_H_
#define OUNCE_SERVER_SERVICE_OIP_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "server/frontend/generation.h"
#include "server/service/call_record.h"
#include "server/service/oip_reader.h"
#include "server/service/oip_request.h"

namespace ounce::server {

class OipCall final : public grpc::ServerUnaryReactor,
                      public GenerateSink,
                      public DetectSink {
 public:
  // Begins it. `response` is gRPC's; `reader` must outlive the call.
  static grpc::ServerUnaryReactor* Start(OipReader& reader,
                                         grpc::CallbackServerContext& context,
                                         const grpc::ByteBuffer& bytes,
                                         grpc::ByteBuffer* response);

  // GenerateSink
  bool HasRoom() const override { return true; }  // max_new_tokens bounds it
  void OnChunk(GenerateChunk chunk) override;
  void OnDone(const absl::Status& status,
              const GenerateOutcome& outcome) override;
  // DetectSink
  void OnDone(const absl::Status& status, DetectResult result) override;

  // grpc::ServerUnaryReactor
  void OnCancel() override { run_.Cancel(); }
  void OnDone() override;

 private:
  OipCall(grpc::ByteBuffer* response, std::shared_ptr<CallRecord> record)
      : response_(response), record_(std::move(record)) {}

  grpc::ByteBuffer* const response_;  // gRPC's; ours until Finish
  const std::shared_ptr<CallRecord> record_;
  // Set by Start, before anybody else knows of the call.
  OipAnswer answer_;
  OipRun run_;

  std::string text_;   // the engine's thread alone
  bool whole_ = true;  // there was memory for all of it

  Mutex mu_;
  std::shared_ptr<OipCall> self_ ABSL_GUARDED_BY(mu_);  // until OnDone()
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_OIP_CALL_H_
