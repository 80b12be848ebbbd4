// The common shape of the unary methods: read, answer, finish.
#ifndef OUNCE_SERVER_SERVICE_WIRE_H_
#define OUNCE_SERVER_SERVICE_WIRE_H_

#include <google/protobuf/message.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "base/guard.h"
#include "base/status_macros.h"
#include "server/frontend/worker_pool.h"
#include "server/service/grpc_status.h"
#include "server/service/reception.h"

namespace ounce::server {

// `message` must be serializable: strings in it are UTF-8.
grpc::ByteBuffer Serialize(const google::protobuf::Message& message);

// A unary call on its way: what the functions below need of it.
struct UnaryCall {
  grpc::CallbackServerContext* context;
  const grpc::ByteBuffer* in;
  grpc::ByteBuffer* out;
};

// A method that is quick enough for gRPC's own thread: reads the request, calls
// `method(request, &response)`, which returns an absl::Status, and answers.
template <class Request, class Response, class Method>
grpc::ServerUnaryReactor* AnswerNow(Reception& reception, const UnaryCall& call,
                                    Method method) {
  grpc::ServerUnaryReactor* const reactor = call.context->DefaultReactor();
  Request request;
  const absl::Status status = Guarded([&]() -> absl::Status {
    RETURN_IF_ERROR(reception.Read(*call.context, *call.in, &request));
    Response response;
    RETURN_IF_ERROR(method(request, &response));
    *call.out = Serialize(response);
    return absl::OkStatus();
  });
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

// The same on another thread: `run(work)` has the work done there.
template <class Request, class Response, class Run, class Method>
grpc::ServerUnaryReactor* AnswerOn(Run run, Reception& reception,
                                   const UnaryCall& call, Method method) {
  struct Job {
    const UnaryCall call;
    grpc::ServerUnaryReactor* const reactor;
    Method method;
    Request request;
  };
  // Once: each call of this makes another one.
  grpc::ServerUnaryReactor* const reactor = call.context->DefaultReactor();
  std::unique_ptr<Job> job;
  WorkerPool::Job work;
  const absl::Status status = Guarded([&]() -> absl::Status {
    job.reset(new Job{call, reactor, std::move(method), Request()});
    RETURN_IF_ERROR(reception.Read(*call.context, *call.in, &job->request));
    work = [job = std::move(job)](const absl::Status& room) {
      const absl::Status status = Guarded([&]() -> absl::Status {
        RETURN_IF_ERROR(room);
        Response response;
        RETURN_IF_ERROR(job->method(job->request, &response));
        *job->call.out = Serialize(response);
        return absl::OkStatus();
      });
      job->reactor->Finish(ToGrpcStatus(status));
    };
    return absl::OkStatus();
  });
  if (status.ok()) {
    run(std::move(work));
  } else {
    reactor->Finish(ToGrpcStatus(status));
  }
  return reactor;
}

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_WIRE_H_
