#include "server/service/oip_reader.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"

namespace ounce::server {

void OipRun::Cancel() const {
  if (text != nullptr) text->Cancel();
  if (objects != nullptr) objects->Cancel();
}

void OipRun::Wake() const {
  if (text != nullptr) text->Wake();
}

void OipRun::Release() const {
  if (text != nullptr) text->Release();
  if (objects != nullptr) objects->Release();
}

absl::StatusOr<OipRequest> OipReader::Read(
    const grpc::CallbackServerContext& context, const grpc::ByteBuffer& bytes,
    std::string* id) {
  inference::ModelInferRequest message;
  RETURN_IF_ERROR(reception_.Read(context, bytes, &message));
  *id = message.id();
  const absl::StatusOr<std::shared_ptr<ServedModel>> model =
      front_end_.FindModel(message.model_name());
  if (!model.ok()) return InOipTerms(model.status());
  const ModelInfo info = (*model)->info();
  absl::StatusOr<OipRequest> request = ReadOipRequest(message, info);
  if (!request.ok()) front_end_.OnRefused(info, request.status());
  return request;
}

CallContext OipReader::ContextOf(const grpc::CallbackServerContext& context,
                                 const OipRequest& request) {
  CallContext call = reception_.ContextOf(context);
  if (request.timeout.has_value()) {
    call.deadline = std::min(call.deadline, call.arrival + *request.timeout);
  }
  return call;
}

void OipReader::Run(CallContext call, OipRequest request, const OipRun& run) {
  if (run.text != nullptr) {
    front_end_.Generate(std::move(call),
                        std::get<GenerateRequest>(std::move(request.request)),
                        run.text);
  } else {
    front_end_.Detect(std::move(call),
                      std::get<DetectRequest>(std::move(request.request)),
                      run.objects);
  }
}

}  // namespace ounce::server
