#include "server/service/wire.h"

#include <google/protobuf/descriptor.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include "base/check.h"

namespace ounce::server {

grpc::ByteBuffer Serialize(const google::protobuf::Message& message) {
  grpc::ByteBuffer bytes;
  bool own_buffer = false;
  const grpc::Status status =
      grpc::SerializationTraits<google::protobuf::Message>::Serialize(
          message, &bytes, &own_buffer);
  OUNCE_CHECK(status.ok(), "a response is serializable");
  return bytes;
}

std::string ModelNamedIn(const google::protobuf::Message& request) {
  const google::protobuf::Descriptor& type = *request.GetDescriptor();
  for (const char* field_name : {"model", "name"}) {
    const google::protobuf::FieldDescriptor* field =
        type.FindFieldByName(field_name);
    if (field != nullptr) {
      return request.GetReflection()->GetString(request, field);
    }
  }
  return "";
}

void FinishUnary(Reception& reception, const UnaryCall& call,
                 grpc::ServerUnaryReactor* reactor, const std::string& model,
                 const absl::Status& status) {
  // Without memory for the line the call ends all the same.
  (void)Guarded([&] {
    if (!status.ok()) {
      reception.LogFailure(call.method, reception.PeerOf(*call.context), model,
                           status);
    }
    return absl::OkStatus();
  });
  reactor->Finish(ToGrpcStatus(status));
}

}  // namespace ounce::server
