// Reads a request from the wire ourselves, instead of leaving it to gRPC's
// generated code: there, a string field that is not UTF-8 ends in UNIMPLEMENTED
// without a word; here it ends in INVALID_ARGUMENT with the field's name.
//
// So the services are "raw" callback services, whose methods see ByteBuffers.
#ifndef OUNCE_SERVER_SERVICE_WIRE_H_
#define OUNCE_SERVER_SERVICE_WIRE_H_

#include <google/protobuf/message.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <utility>

#include "absl/status/status.h"
#include "server/service/grpc_status.h"
#include "server/service/worker_pool.h"

namespace ounce::server {

// Errors: kInvalidArgument; names the first string field that is not UTF-8, or
//   says that the bytes are no such message.
absl::Status ParseRequest(const grpc::ByteBuffer& bytes,
                          google::protobuf::Message* request);

// `message` must be serializable: strings in it are UTF-8.
grpc::ByteBuffer Serialize(const google::protobuf::Message& message);

// A unary method that is quick enough for gRPC's own thread: parses, calls
// `method(request, &response)`, which returns an absl::Status, and answers.
template <class Request, class Response, class Method>
grpc::ServerUnaryReactor* AnswerNow(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer& in,
                                    grpc::ByteBuffer* out, Method method) {
  Request request;
  Response response;
  absl::Status status = ParseRequest(in, &request);
  if (status.ok()) status = method(request, &response);
  if (status.ok()) *out = Serialize(response);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

// The same on a thread of `pool`; answers `busy` when that has no room.
template <class Request, class Response, class Method>
grpc::ServerUnaryReactor* AnswerOn(WorkerPool& pool, const absl::Status& busy,
                                   grpc::CallbackServerContext* context,
                                   const grpc::ByteBuffer& in,
                                   grpc::ByteBuffer* out, Method method) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  Request request;
  if (absl::Status status = ParseRequest(in, &request); !status.ok()) {
    reactor->Finish(ToGrpcStatus(status));
    return reactor;
  }
  if (!pool.TryRun([request = std::move(request), out, reactor, method] {
        Response response;
        const absl::Status status = method(request, &response);
        if (status.ok()) *out = Serialize(response);
        reactor->Finish(ToGrpcStatus(status));
      })) {
    reactor->Finish(ToGrpcStatus(busy));
  }
  return reactor;
}

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_WIRE_H_
