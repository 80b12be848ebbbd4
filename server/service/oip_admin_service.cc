#include "server/service/oip_admin_service.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "ounce/v1/model_admin.pb.h"
#include "server/scheduler/refusal.h"
#include "server/service/checks.h"
#include "server/service/grpc_status.h"
#include "server/service/oip_request.h"

namespace ounce::server {
namespace {

absl::Status OnTheOtherListener() {
  return absl::UnimplementedError(
      "inference is on the public listener (listen); call it there");
}

grpc::ServerUnaryReactor* RefuseHere(grpc::CallbackServerContext* context) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(OnTheOtherListener()));
  return reactor;
}

class RefusedStream final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  RefusedStream() { Finish(ToGrpcStatus(OnTheOtherListener())); }
  void OnDone() override { delete this; }
};

absl::Status CheckRepository(const std::string& name) {
  if (name.empty()) return absl::OkStatus();
  return FieldError("repository_name",
                    "must be empty; there is one repository, without a name");
}

absl::Status UnknownParameter(const std::string& name, const char* known) {
  return FieldError("parameters", absl::StrCat("'", name, "' is not known; ",
                                               "known are ", known));
}

const char* StateOf(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return "LOADING";
    case ModelState::kReady:
    case ModelState::kQuantizing:
      return "READY";
    case ModelState::kUnloading:
      return "UNLOADING";
  }
  return "UNAVAILABLE";
}

// With the names that this protocol has.
absl::Status InRepositoryTerms(const absl::Status& status) {
  return FieldOf(status) == "name" ? WithFieldName(status, "model_name")
                                   : status;
}

}  // namespace

OipAdminService::OipAdminService(ModelCatalog& catalog, Reception& reception,
                                 AdminJobs& jobs, std::string version,
                                 std::vector<LoadParams> configured)
    : OipServer(reception, std::move(version),
                {"model_repository", "model_repository(unload_dependents)"}),
      catalog_(catalog),
      jobs_(jobs),
      configured_(std::move(configured)) {}

inference::RepositoryIndexResponse OipAdminService::Index(bool ready) const {
  inference::RepositoryIndexResponse response;
  std::set<std::string> present;
  for (const ModelInfo& info : catalog_.List()) {
    present.insert(info.name);
    const std::string state = StateOf(info.state);
    if (ready && state != "READY") continue;
    auto* const model = response.add_models();
    model->set_name(info.name);
    if (info.version > 0) model->set_version(absl::StrCat(info.version));
    model->set_state(state);
  }
  for (const LoadParams& params : configured_) {
    if (ready || present.contains(params.name)) continue;
    auto* const model = response.add_models();
    model->set_name(params.name);
    model->set_state("UNAVAILABLE");
    model->set_reason("not loaded");
  }
  return response;
}

grpc::ServerUnaryReactor* OipAdminService::RepositoryIndex(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<inference::RepositoryIndexRequest,
                   inference::RepositoryIndexResponse>(
      reception(), {context, request, response},
      [this](const inference::RepositoryIndexRequest& in,
             inference::RepositoryIndexResponse* out) -> absl::Status {
        RETURN_IF_ERROR(CheckRepository(in.repository_name()));
        *out = Index(in.ready());
        return absl::OkStatus();
      });
}

absl::StatusOr<std::optional<LoadParams>> OipAdminService::ToLoad(
    const inference::RepositoryModelLoadRequest& request) const {
  RETURN_IF_ERROR(CheckRepository(request.repository_name()));
  v1::LoadModelRequest load;
  load.set_name(request.model_name());
  for (const auto& [name, value] : request.parameters()) {
    if (absl::StartsWith(name, "file:")) {
      return FieldError("parameters",
                        absl::StrCat("'", name,
                                     "': files never come with a request; give "
                                     "'path', a folder of the server"));
    }
    if (name == "path") {
      load.set_path(value.string_param());
    } else if (name == "method") {
      load.set_method(value.string_param());
    } else if (name == "plan") {
      load.set_plan(value.string_param());
    } else {
      return UnknownParameter(name, "path, method and plan");
    }
  }
  const auto configured = std::find_if(
      configured_.begin(), configured_.end(),
      [&](const LoadParams& params) { return params.name == load.name(); });
  if (load.path().empty()) {
    if (request.parameters().empty() && catalog_.Find(load.name()).ok()) {
      return std::optional<LoadParams>();
    }
    if (configured == configured_.end()) {
      RETURN_IF_ERROR(InRepositoryTerms(CheckModelName("name", load.name())));
      return AboutModel(
          Refusal(Reason::kModelNotFound,
                  absl::StrCat("the configuration has no model '", load.name(),
                               "'; give the parameter 'path', a folder of the "
                               "server")),
          load.name());
    }
    if (load.method().empty() && load.plan().empty()) {
      return std::optional<LoadParams>(*configured);
    }
    load.set_path(configured->path);
  }
  absl::StatusOr<LoadParams> params = CheckLoad(load);
  if (!params.ok()) return InRepositoryTerms(params.status());
  return std::optional<LoadParams>(*std::move(params));
}

grpc::ServerUnaryReactor* OipAdminService::RepositoryModelLoad(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  using Response = inference::RepositoryModelLoadResponse;
  return jobs_.Begin<inference::RepositoryModelLoadRequest, Response>(
      {context, request, response}, jobs_.loads(),
      [this, record = reception().calls().Of(*context)](
          const inference::RepositoryModelLoadRequest& in,
          const SlowCall& call) -> absl::StatusOr<Response> {
        ASSIGN_OR_RETURN(std::optional<LoadParams> params, ToLoad(in));
        if (params.has_value()) {
          // As at the start: those of the configuration may lie anywhere.
          if (params->reserved) {
            RETURN_IF_ERROR(catalog_.Reserve(params->name, params->path));
          }
          RETURN_IF_ERROR(
              jobs_.Load(catalog_, *std::move(params), call, *record).status());
        }
        return Response();
      });
}

grpc::ServerUnaryReactor* OipAdminService::RepositoryModelUnload(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  using Response = inference::RepositoryModelUnloadResponse;
  return jobs_.Begin<inference::RepositoryModelUnloadRequest, Response>(
      {context, request, response}, jobs_.unloads(),
      [this](const inference::RepositoryModelUnloadRequest& in,
             const SlowCall&) -> absl::StatusOr<Response> {
        RETURN_IF_ERROR(CheckRepository(in.repository_name()));
        bool force = false;
        for (const auto& [name, value] : in.parameters()) {
          if (name == "force") {
            force = value.bool_param();
          } else if (name != "unload_dependents") {  // there are none
            return UnknownParameter(name, "force and unload_dependents");
          }
        }
        RETURN_IF_ERROR(
            InRepositoryTerms(CheckModelName("name", in.model_name())));
        RETURN_IF_ERROR(catalog_.Unload(in.model_name(), force));
        return Response();
      });
}

grpc::ServerUnaryReactor* OipAdminService::ModelReady(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer*,
    grpc::ByteBuffer*) {
  return RefuseHere(context);
}

grpc::ServerUnaryReactor* OipAdminService::ModelMetadata(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer*,
    grpc::ByteBuffer*) {
  return RefuseHere(context);
}

grpc::ServerUnaryReactor* OipAdminService::ModelInfer(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer*,
    grpc::ByteBuffer*) {
  return RefuseHere(context);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
OipAdminService::ModelStreamInfer(grpc::CallbackServerContext*) {
  return new RefusedStream();
}

}  // namespace ounce::server
