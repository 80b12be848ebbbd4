#include "server/service/oip_service.h"

#include <memory>

#include "base/status_macros.h"
#include "server/service/grpc_status.h"
#include "server/service/oip_call.h"
#include "server/service/oip_request.h"
#include "server/service/oip_stream.h"
#include "server/service/oip_tensors.h"

namespace ounce::server {
namespace {

grpc::ServerUnaryReactor* OnTheOtherListener(
    grpc::CallbackServerContext* context) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(absl::UnimplementedError(
      "the repository of models is on the admin's listener (admin_listen); "
      "call it there")));
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* OipServer::ServerLive(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<inference::ServerLiveRequest, inference::ServerLiveResponse>(
      reception_, {context, request, response},
      [](const auto&, inference::ServerLiveResponse* out) {
        out->set_live(true);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* OipServer::ServerReady(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<inference::ServerReadyRequest,
                   inference::ServerReadyResponse>(
      reception_, {context, request, response},
      [this](const auto&, inference::ServerReadyResponse* out) {
        out->set_ready(serving_);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* OipServer::ServerMetadata(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<inference::ServerMetadataRequest,
                   inference::ServerMetadataResponse>(
      reception_, {context, request, response},
      [this](const auto&, inference::ServerMetadataResponse* out) {
        out->set_name("ounce");
        out->set_version(version_);
        for (const std::string& extension : extensions_) {
          out->add_extensions(extension);
        }
        return absl::OkStatus();
      });
}

OipService::OipService(FrontEnd& front_end, Reception& reception,
                       std::string version)
    : OipServer(reception, std::move(version),
                {"binary_tensor_data", "parameters"}),
      front_end_(front_end),
      reader_(front_end, reception) {}

grpc::ServerUnaryReactor* OipService::ModelReady(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<inference::ModelReadyRequest, inference::ModelReadyResponse>(
      reception(), {context, request, response},
      [this](const inference::ModelReadyRequest& in,
             inference::ModelReadyResponse* out) {
        const absl::StatusOr<std::shared_ptr<ServedModel>> model =
            front_end_.FindModel(in.name());
        out->set_ready(model.ok() &&
                       CheckOipVersion((*model)->info(), in.version()).ok());
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* OipService::ModelMetadata(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<inference::ModelMetadataRequest,
                   inference::ModelMetadataResponse>(
      reception(), {context, request, response},
      [this](const inference::ModelMetadataRequest& in,
             inference::ModelMetadataResponse* out) -> absl::Status {
        const absl::StatusOr<std::shared_ptr<ServedModel>> model =
            front_end_.FindModel(in.name());
        if (!model.ok()) return InOipTerms(model.status());
        const ModelInfo info = (*model)->info();
        RETURN_IF_ERROR(CheckOipVersion(info, in.version()));
        *out = OipMetadata(info);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* OipService::ModelInfer(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return OipCall::Start(reader_, *context, *request, response);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
OipService::ModelStreamInfer(grpc::CallbackServerContext* context) {
  return OipStream::Start(reader_, *context);
}

grpc::ServerUnaryReactor* OipService::RepositoryIndex(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer*,
    grpc::ByteBuffer*) {
  return OnTheOtherListener(context);
}

grpc::ServerUnaryReactor* OipService::RepositoryModelLoad(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer*,
    grpc::ByteBuffer*) {
  return OnTheOtherListener(context);
}

grpc::ServerUnaryReactor* OipService::RepositoryModelUnload(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer*,
    grpc::ByteBuffer*) {
  return OnTheOtherListener(context);
}

}  // namespace ounce::server
