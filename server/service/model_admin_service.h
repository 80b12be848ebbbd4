// The ModelAdmin service of model_admin.proto.
//
// Threads: gRPC's for the quick methods; Load, Unload and Quantize each keep
//   one of a few threads of the service's own, and are refused when all are
//   busy.
#ifndef OUNCE_SERVER_SERVICE_MODEL_ADMIN_SERVICE_H_
#define OUNCE_SERVER_SERVICE_MODEL_ADMIN_SERVICE_H_

#include <atomic>
#include <string>
#include <vector>

#include "base/clock.h"
#include "ounce/v1/model_admin.grpc.pb.h"
#include "server/scheduler/model_catalog.h"
#include "server/service/picture_reader.h"
#include "server/service/quantize_call.h"
#include "server/service/worker_pool.h"

namespace ounce::server {

// All methods raw (wire.h).
using RawModelAdmin = v1::ModelAdmin::WithRawCallbackMethod_ListModels<
    v1::ModelAdmin::WithRawCallbackMethod_GetModel<
        v1::ModelAdmin::WithRawCallbackMethod_LoadModel<
            v1::ModelAdmin::WithRawCallbackMethod_UnloadModel<
                v1::ModelAdmin::WithRawCallbackMethod_Quantize<
                    v1::ModelAdmin::WithRawCallbackMethod_ListMethods<
                        v1::ModelAdmin::Service>>>>>>;

class ModelAdminService final : public RawModelAdmin {
 public:
  // `catalog`, `pictures` and `clock` must outlive the service, the service its
  // server.
  ModelAdminService(ModelCatalog& catalog, const PictureReader& pictures,
                    const Clock& clock);

  // Refuses new work and stops quantizations (kUnavailable).
  void Stop() { stopping_ = true; }

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* LoadModel(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* UnloadModel(grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Quantize(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* ListMethods(grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) override;

 private:
  // Reads the pictures, then quantizes.
  absl::StatusOr<QuantizeReport> RunQuantize(QuantizeParams params,
                                             std::vector<std::string> pictures,
                                             QuantizeCall& call);

  ModelCatalog& catalog_;
  const PictureReader& pictures_;
  const Clock& clock_;
  std::atomic<bool> stopping_ = false;  // set once, read by every job
  WorkerPool jobs_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_MODEL_ADMIN_SERVICE_H_
