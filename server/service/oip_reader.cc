#include "server/service/oip_reader.h"

#include <algorithm>

#include "base/status_macros.h"

namespace ounce::server {

absl::StatusOr<OipRequest> OipReader::Read(
    const grpc::CallbackServerContext& context, const grpc::ByteBuffer& bytes,
    std::string* id) {
  inference::ModelInferRequest message;
  RETURN_IF_ERROR(reception_.Read(context, bytes, &message));
  *id = message.id();
  const absl::StatusOr<std::shared_ptr<ServedModel>> model =
      front_end_.FindModel(message.model_name());
  if (!model.ok()) return InOipTerms(model.status());
  return ReadOipRequest(message, (*model)->info());
}

CallContext OipReader::ContextOf(const grpc::CallbackServerContext& context,
                                 const OipRequest& request) {
  CallContext call = reception_.ContextOf(context);
  if (request.timeout.has_value()) {
    call.deadline = std::min(call.deadline, call.arrival + *request.timeout);
  }
  return call;
}

}  // namespace ounce::server
