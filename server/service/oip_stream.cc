#include "server/service/oip_stream.h"

#include <utility>

#include "base/guard.h"
#include "base/status_macros.h"
#include "server/service/grpc_status.h"
#include "server/service/oip_response.h"
#include "server/service/wire.h"

namespace ounce::server {
namespace {

constexpr char kErrorsEndIt[] = "triton_grpc_error";
constexpr char kFinal[] = "triton_final_response";

// Of text that waits.
constexpr size_t kMaxPendingBytes = 64 << 10;

bool WantsErrorsToEndIt(const grpc::CallbackServerContext& context) {
  const auto header = context.client_metadata().find(kErrorsEndIt);
  return header != context.client_metadata().end() && header->second == "true";
}

void SetFinal(bool final, inference::ModelStreamInferResponse& response) {
  (*response.mutable_infer_response()->mutable_parameters())[kFinal]
      .set_bool_param(final);
}

}  // namespace

OipStream::OipStream(OipReader& reader, grpc::CallbackServerContext& context)
    : reader_(reader),
      context_(context),
      record_(reader.RecordOf(context)),
      errors_end_it_(WantsErrorsToEndIt(context)) {}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* OipStream::Start(
    OipReader& reader, grpc::CallbackServerContext& context) {
  const std::shared_ptr<OipStream> stream(new OipStream(reader, context));
  {
    MutexLock lock(&stream->mu_);
    stream->self_ = stream;
  }
  stream->StartRead(&stream->incoming_);
  return stream.get();
}

void OipStream::OnReadDone(bool ok) {
  if (!ok) {  // no more requests, and all are answered
    {
      MutexLock lock(&mu_);
      if (finished_) return;
      finished_ = true;
    }
    Finish(grpc::Status::OK);
    return;
  }
  const absl::Status begun = Guarded([this] { return Begin(); });
  if (begun.ok()) return;
  End(begun);
}

absl::Status OipStream::Begin() {
  grpc::ByteBuffer bytes;
  bytes.Swap(&incoming_);
  std::string id;
  absl::StatusOr<OipRequest> request = reader_.Read(context_, bytes, &id);
  OipRun run;
  CallContext call;
  bool gone = false;
  {
    MutexLock lock(&mu_);
    current_.id = std::move(id);
    RETURN_IF_ERROR(request.status());
    call = reader_.ContextOf(context_, *request);
    run = reader_.Begin(*request, self_);
    current_.run = run;
    gone = gone_;
    current_.answer = std::move(request->answer);
  }
  if (gone) run.Cancel();
  reader_.Run(std::move(call), *std::move(request), run);
  return absl::OkStatus();
}

bool OipStream::HasRoom() const {
  MutexLock lock(&mu_);
  paused_ = !gone_ && current_.answer.stream &&
            current_.pending.size() >= kMaxPendingBytes;
  return !paused_;
}

void OipStream::OnChunk(GenerateChunk chunk) {
  {
    MutexLock lock(&mu_);
    if (gone_) return;
    const absl::Status kept = Guarded([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      current_.pending += chunk.text;
      return absl::OkStatus();
    });
    if (!kept.ok()) Abandon();
  }
  Pump();
}

void OipStream::OnDone(const absl::Status& status,
                       const GenerateOutcome& outcome) {
  record_->AddResult(status, outcome);
  {
    MutexLock lock(&mu_);
    current_.outcome = outcome;
  }
  End(status);
}

void OipStream::OnDone(const absl::Status& status, DetectResult result) {
  record_->AddResult(status, result);
  {
    MutexLock lock(&mu_);
    current_.objects = std::move(result);
  }
  End(status);
}

void OipStream::End(const absl::Status& status) {
  {
    MutexLock lock(&mu_);
    current_.done = true;
    current_.status = status;
  }
  Pump();
}

void OipStream::Abandon() {
  gone_ = true;
  abandoned_ = true;
  current_.pending = {};
}

inference::ModelStreamInferResponse OipStream::Last() {
  inference::ModelStreamInferResponse response;
  if (!current_.status.ok()) {
    const grpc::Status status = ToGrpcStatus(InOipTerms(current_.status));
    response.set_error_message(status.error_message());
    response.mutable_infer_response()->set_id(current_.id);
    return response;
  }
  *response.mutable_infer_response() =
      current_.run.text != nullptr
          ? OipText(current_.answer, std::move(current_.pending),
                    &current_.outcome)
          : OipObjects(current_.answer, current_.objects);
  SetFinal(true, response);
  return response;
}

OipStream::Action OipStream::NextAction(grpc::Status* status) {
  if (writing_ || finished_) return Action::kNone;
  if (abandoned_) {
    *status = ToGrpcStatus(OutOfMemory());
    return Action::kFinish;
  }
  if (current_.done) {
    if (gone_ || (errors_end_it_ && !current_.status.ok())) {
      *status = ToGrpcStatus(InOipTerms(current_.status));
      return Action::kFinish;
    }
    outgoing_ = Serialize(Last());
    last_ = true;
    return Action::kWrite;
  }
  if (!current_.answer.stream || current_.pending.empty()) {
    return Action::kNone;
  }
  inference::ModelStreamInferResponse response;
  *response.mutable_infer_response() =
      OipText(current_.answer, std::exchange(current_.pending, {}), nullptr);
  SetFinal(false, response);
  outgoing_ = Serialize(response);
  return Action::kWrite;
}

void OipStream::Pump() {
  Action action = Action::kNone;
  grpc::Status status;
  {
    MutexLock lock(&mu_);
    const absl::Status made = Guarded([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      action = NextAction(&status);
      return absl::OkStatus();
    });
    if (!made.ok()) {
      Abandon();
      action = NextAction(&status);
    }
    if (action == Action::kWrite) writing_ = true;
    if (action == Action::kFinish) finished_ = true;
  }
  if (action == Action::kWrite) StartWrite(&outgoing_);
  if (action == Action::kFinish) Finish(status);
}

void OipStream::OnWriteDone(bool ok) {
  Current over;
  OipRun running;
  bool wake = false;
  bool read = false;
  {
    MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) gone_ = true;
    if (last_) {
      last_ = false;
      paused_ = false;
      over = std::exchange(current_, {});
      read = true;
    } else {
      running = current_.run;
      wake = paused_;
    }
  }
  if (read) {
    over.run.Release();
    StartRead(&incoming_);
    return;
  }
  Pump();  // gRPC may let go of `this` now
  if (!ok) running.Cancel();
  if (wake) running.Wake();
}

void OipStream::OnCancel() {
  OipRun run;
  {
    MutexLock lock(&mu_);
    gone_ = true;
    run = current_.run;
  }
  run.Cancel();
}

void OipStream::OnDone() {
  Current over;
  std::shared_ptr<OipStream> self;  // freed after the lock is
  {
    MutexLock lock(&mu_);
    over = std::exchange(current_, {});
    self = std::move(self_);
  }
  over.run.Release();
}

}  // namespace ounce::server
