// The ModelAdmin service of model_admin.proto.
//
// Threads: gRPC's for the quick methods; each Load, Unload, Quantize,
//   Evaluate, SaveModel and Inspect has a thread of its own. There are only so
//   many of each kind at a time, so that loads which hang leave room for the
//   others. A call ends at once when it is cancelled or the server stops; its
//   thread follows as soon as it can.
#ifndef OUNCE_SERVER_SERVICE_MODEL_ADMIN_SERVICE_H_
#define OUNCE_SERVER_SERVICE_MODEL_ADMIN_SERVICE_H_

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "ounce/v1/model_admin.grpc.pb.h"
#include "server/frontend/picture_reader.h"
#include "server/scheduler/model_catalog.h"
#include "server/service/admin_jobs.h"
#include "server/service/job_threads.h"
#include "server/service/progress_call.h"
#include "server/service/reception.h"
#include "server/service/server_info.h"
#include "server/service/slow_call.h"
#include "server/service/wire.h"

namespace ounce::server {

// All methods raw (wire.h).
using RawModelAdmin = v1::ModelAdmin::WithRawCallbackMethod_ListModels<
    v1::ModelAdmin::WithRawCallbackMethod_GetModel<
        v1::ModelAdmin::WithRawCallbackMethod_LoadModel<
            v1::ModelAdmin::WithRawCallbackMethod_UnloadModel<
                v1::ModelAdmin::WithRawCallbackMethod_Quantize<
                    v1::ModelAdmin::WithRawCallbackMethod_Evaluate<
                        v1::ModelAdmin::WithRawCallbackMethod_SaveModel<
                            v1::ModelAdmin::WithRawCallbackMethod_Inspect<
                                v1::ModelAdmin::
                                    WithRawCallbackMethod_ListMethods<
                                        v1::ModelAdmin::
                                            WithRawCallbackMethod_GetServer<
                                                v1::ModelAdmin::
                                                    Service>>>>>>>>>>;

class ModelAdminService final : public RawModelAdmin {
 public:
  // `catalog`, `pictures`, `reception` and `clock` must outlive the service,
  // the service its server. `server_info` is called on any thread.
  ModelAdminService(
      ModelCatalog& catalog, const PictureReader& pictures,
      Reception& reception, const Clock& clock,
      std::function<ServerInfo()> server_info = [] { return ServerInfo(); });

  // Refuses new work and ends what runs (kUnavailable).
  void Stop() { jobs_.Stop(); }

  // Where other protocols load and unload.
  AdminJobs& jobs() { return jobs_; }

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
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Evaluate(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* SaveModel(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Inspect(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer* request,
                                    grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListMethods(grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetServer(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;

 private:
  absl::StatusOr<v1::Model> Load(const v1::LoadModelRequest& request,
                                 const SlowCall& call, CallRecord& record);
  absl::StatusOr<v1::UnloadModelResponse> Unload(
      const v1::UnloadModelRequest& request, const SlowCall& call);
  absl::StatusOr<v1::InspectResponse> RunInspect(
      const v1::InspectRequest& request, const SlowCall& call);

  // Reads a request and starts `work` on a thread of `threads`; the work tells
  // its progress and returns how the call ends.
  template <class Request>
  grpc::ServerWriteReactor<grpc::ByteBuffer>* BeginTelling(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer& bytes,
      JobThreads& threads,
      absl::StatusOr<ProgressCall::Ending> (ModelAdminService::*work)(
          Request&, ProgressCall&));
  absl::StatusOr<ProgressCall::Ending> RunEvaluate(v1::EvaluateRequest& request,
                                                   ProgressCall& call);
  // The request's picture i.
  absl::StatusOr<Picture> ReadPicture(
      int64_t i, std::string bytes,
      const model::ImageProcessor& processor) const;
  // Reads the pictures, then quantizes.
  absl::StatusOr<ProgressCall::Ending> RunQuantize(v1::QuantizeRequest& request,
                                                   ProgressCall& call);
  absl::StatusOr<ProgressCall::Ending> RunSave(v1::SaveModelRequest& request,
                                               ProgressCall& call);

  ModelCatalog& catalog_;
  const PictureReader& pictures_;
  Reception& reception_;
  const Clock& clock_;
  const std::function<ServerInfo()> server_info_;
  AdminJobs jobs_;
  JobThreads quantizations_;
  JobThreads evaluations_;
  JobThreads saves_;
  JobThreads inspections_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_MODEL_ADMIN_SERVICE_H_
