// The Inference service of inference.proto: its messages, turned into what the
// front end takes, and back.
//
// Threads: gRPC's. Nothing blocks there.
#ifndef OUNCE_SERVER_SERVICE_INFERENCE_SERVICE_H_
#define OUNCE_SERVER_SERVICE_INFERENCE_SERVICE_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "ounce/v1/inference.grpc.pb.h"
#include "server/frontend/front_end.h"
#include "server/service/reception.h"
#include "server/service/wire.h"

namespace ounce::server {

// All methods raw (wire.h).
using RawInference = v1::Inference::WithRawCallbackMethod_Generate<
    v1::Inference::WithRawCallbackMethod_Tokenize<
        v1::Inference::WithRawCallbackMethod_Detokenize<
            v1::Inference::WithRawCallbackMethod_DetectObjects<
                v1::Inference::WithRawCallbackMethod_ListModels<
                    v1::Inference::Service>>>>>;

class InferenceService final : public RawInference {
 public:
  // Both must outlive the service, the service its server.
  InferenceService(FrontEnd& front_end, Reception& reception)
      : front_end_(front_end), reception_(reception) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* DetectObjects(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  absl::Status TokenizeNow(const v1::TokenizeRequest& request,
                           v1::TokenizeResponse* response);
  absl::Status DetokenizeNow(const v1::DetokenizeRequest& request,
                             v1::DetokenizeResponse* response);
  // At once if it is quick, else on a thread for texts.
  template <class Request, class Response>
  grpc::ServerUnaryReactor* Answer(
      const UnaryCall& call,
      absl::Status (InferenceService::*method)(const Request&, Response*));

  FrontEnd& front_end_;
  Reception& reception_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_INFERENCE_SERVICE_H_
