#include "server/service/wire.h"

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

}  // namespace ounce::server
