// The Open Inference Protocol (proto/inference/grpc_predict_v2.proto) on the
// public listener: all of it but the repository of models.
//
// Threads: gRPC's. Nothing blocks there.
#ifndef OUNCE_SERVER_SERVICE_OIP_SERVICE_H_
#define OUNCE_SERVER_SERVICE_OIP_SERVICE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <string>
#include <utility>

#include "inference/grpc_predict_v2.grpc.pb.h"
#include "server/frontend/front_end.h"
#include "server/service/oip_reader.h"
#include "server/service/reception.h"
#include "server/service/wire.h"

namespace ounce::server {

// All methods raw (reception.h).
using RawOip = inference::GRPCInferenceService::WithRawCallbackMethod_ServerLive<
    inference::GRPCInferenceService::WithRawCallbackMethod_ServerReady<
        inference::GRPCInferenceService::WithRawCallbackMethod_ModelReady<
            inference::GRPCInferenceService::WithRawCallbackMethod_ServerMetadata<
                inference::GRPCInferenceService::WithRawCallbackMethod_ModelMetadata<
                    inference::GRPCInferenceService::WithRawCallbackMethod_ModelInfer<
                        inference::GRPCInferenceService::
                            WithRawCallbackMethod_ModelStreamInfer<
                                inference::GRPCInferenceService::
                                    WithRawCallbackMethod_RepositoryIndex<
                                        inference::GRPCInferenceService::
                                            WithRawCallbackMethod_RepositoryModelLoad<
                                                inference::GRPCInferenceService::
                                                    WithRawCallbackMethod_RepositoryModelUnload<
                                                        inference::
                                                            GRPCInferenceService::
                                                                Service>>>>>>>>>>;

// What both listeners answer alike.
class OipServer : public RawOip {
 public:
  // "inference.GRPCInferenceService"
  static const char* service_full_name() {
    return inference::GRPCInferenceService::service_full_name();
  }

  // What ServerReady says.
  void SetServing(bool serving) { serving_ = serving; }

  grpc::ServerUnaryReactor* ServerLive(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ServerReady(grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ServerMetadata(grpc::CallbackServerContext* context,
                                           const grpc::ByteBuffer* request,
                                           grpc::ByteBuffer* response) override;

 protected:
  // `reception` must outlive it. `version` and `extensions`: as ServerMetadata
  // tells them.
  OipServer(Reception& reception, std::string version,
            std::vector<std::string> extensions)
      : reception_(reception),
        version_(std::move(version)),
        extensions_(std::move(extensions)) {}

  Reception& reception() { return reception_; }

 private:
  Reception& reception_;
  const std::string version_;
  const std::vector<std::string> extensions_;
  std::atomic<bool> serving_ = false;
};

class OipService final : public OipServer {
 public:
  // All must outlive the service, the service its server.
  OipService(FrontEnd& front_end, Reception& reception, std::string version);

  grpc::ServerUnaryReactor* ModelReady(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ModelMetadata(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* ModelStreamInfer(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* RepositoryIndex(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* RepositoryModelLoad(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* RepositoryModelUnload(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;

 private:
  FrontEnd& front_end_;
  OipReader reader_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_OIP_SERVICE_H_
