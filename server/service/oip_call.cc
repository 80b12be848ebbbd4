#include "server/service/oip_call.h"

#include <utility>

#include "base/guard.h"
#include "base/status_macros.h"
#include "server/service/grpc_status.h"
#include "server/service/oip_response.h"
#include "server/service/wire.h"

namespace ounce::server {

grpc::ServerUnaryReactor* OipCall::Start(OipReader& reader,
                                         grpc::CallbackServerContext& context,
                                         const grpc::ByteBuffer& bytes,
                                         grpc::ByteBuffer* response) {
  const std::shared_ptr<OipCall> call(
      new OipCall(response, reader.RecordOf(context)));
  {
    MutexLock lock(&call->mu_);
    call->self_ = call;
  }
  CallContext caller;
  OipRequest request;
  const absl::Status status = Guarded([&]() -> absl::Status {
    std::string id;
    ASSIGN_OR_RETURN(request, reader.Read(context, bytes, &id));
    call->answer_ = std::move(request.answer);
    caller = reader.ContextOf(context, request);
    call->run_ = reader.Begin(request, call);
    return absl::OkStatus();
  });
  if (status.ok()) {
    reader.Run(std::move(caller), std::move(request), call->run_);
  } else {
    call->Finish(ToGrpcStatus(status));
  }
  return call.get();
}

void OipCall::OnChunk(GenerateChunk chunk) {
  const absl::Status kept = Guarded([&] {
    text_ += chunk.text;
    return absl::OkStatus();
  });
  if (!kept.ok()) whole_ = false;
}

void OipCall::OnDone(const absl::Status& status,
                     const GenerateOutcome& outcome) {
  record_->AddResult(status, outcome);
  const absl::Status answered = Guarded([&]() -> absl::Status {
    if (!status.ok()) return InOipTerms(status);
    if (!whole_) return OutOfMemory();
    *response_ = Serialize(OipText(answer_, std::move(text_), &outcome));
    return absl::OkStatus();
  });
  Finish(ToGrpcStatus(answered));
}

void OipCall::OnDone(const absl::Status& status, DetectResult result) {
  record_->AddResult(status, result);
  const absl::Status answered = Guarded([&]() -> absl::Status {
    if (!status.ok()) return InOipTerms(status);
    *response_ = Serialize(OipObjects(answer_, result));
    return absl::OkStatus();
  });
  Finish(ToGrpcStatus(answered));
}

void OipCall::OnDone() {
  run_.Release();
  std::shared_ptr<OipCall> self;  // freed after the lock is
  MutexLock lock(&mu_);
  self = std::move(self_);
}

}  // namespace ounce::server
