// The Open Inference Protocol on the admin's listener: the repository of models
// (Triton's extension), and whether the server lives.
//
// The repository is what the configuration names, and what else is loaded. A
// model of the configuration is loaded by its name alone; any other folder of
// the server with the parameter "path". Files never come with a request.
//
// Threads: gRPC's for the index; loads and unloads have threads of their own
//   (admin_jobs.h).
#ifndef OUNCE_SERVER_SERVICE_OIP_ADMIN_SERVICE_H_
#define OUNCE_SERVER_SERVICE_OIP_ADMIN_SERVICE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference/grpc_predict_v2.pb.h"
#include "server/scheduler/model_catalog.h"
#include "server/service/admin_jobs.h"
#include "server/service/oip_service.h"
#include "server/service/reception.h"

namespace ounce::server {

class OipAdminService final : public OipServer {
 public:
  // `configured`: the models of the configuration, `reserved`. The others must
  // outlive the service, the service its server.
  OipAdminService(ModelCatalog& catalog, Reception& reception, AdminJobs& jobs,
                  std::string version, std::vector<LoadParams> configured);

  grpc::ServerUnaryReactor* RepositoryIndex(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* RepositoryModelLoad(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* RepositoryModelUnload(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;

  // These say where they are.
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

 private:
  inference::RepositoryIndexResponse Index(bool ready) const;
  // What is to be loaded; nothing where it is already.
  absl::StatusOr<std::optional<LoadParams>> ToLoad(
      const inference::RepositoryModelLoadRequest& request) const;

  ModelCatalog& catalog_;
  AdminJobs& jobs_;
  const std::vector<LoadParams> configured_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_OIP_ADMIN_SERVICE_H_
