#include "server/service/listeners.h"

#include <google/protobuf/stubs/logging.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/service/deadline.h"
#include "server/service/rpc_metrics.h"

namespace ounce::server {
namespace {

constexpr char kInference[] = "ounce.v1.Inference";
constexpr char kModelAdmin[] = "ounce.v1.ModelAdmin";

constexpr size_t kMaxBufferBytes = size_t{256} << 20;  // of one server's calls
constexpr int kMaxStreamsPerConnection = 1024;
constexpr int kPingEveryMs = 60'000;  // an idle peer, to see whether it lives
constexpr int kPingTimeoutMs = 20'000;
constexpr int kMinClientPingMs = 10'000;  // more often is refused

struct Bound {
  std::unique_ptr<grpc::Server> server;
  std::string address;
};

absl::StatusOr<Bound> Listen(const std::string& name,
                             const std::string& address,
                             const Listeners::Options& options,
                             grpc::Service& service) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": HOST:PORT wanted, '", address, "' found"));
  }
  grpc::ResourceQuota quota(name);
  quota.Resize(kMaxBufferBytes);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  // Without this a second server on the same port would take half the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kPingEveryMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinClientPingMs);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  if (options.figures != nullptr) {
    builder.experimental().SetInterceptorCreators(
        CountRpcs(*options.figures, Clock::Real()));
  }
  Bound bound;
  bound.server = builder.BuildAndStart();
  if (bound.server == nullptr || port == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name,
                     ": an address of this machine and a free port "
                     "wanted, '",
                     address, "' found"));
  }
  bound.address = absl::StrCat(address.substr(0, colon), ":", port);
  return bound;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listeners>> Listeners::Start(
    const Options& options, InferenceService& inference,
    ModelAdminService& admin) {
  grpc::EnableDefaultHealthCheckService(true);
  static const bool once = [] {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    // Else every malformed message of a client is a line in the log.
    google::protobuf::SetLogHandler(nullptr);
    return true;
  }();
  static_cast<void>(once);
  ASSIGN_OR_RETURN(Bound public_side,
                   Listen("listen", options.inference, options, inference));
  ASSIGN_OR_RETURN(Bound admin_side,
                   Listen("admin_listen", options.admin, options, admin));
  std::unique_ptr<Listeners> listeners(new Listeners(options));
  listeners->inference_ = std::move(public_side.server);
  listeners->inference_address_ = std::move(public_side.address);
  listeners->admin_ = std::move(admin_side.server);
  listeners->admin_address_ = std::move(admin_side.address);
  listeners->SetServing(false);
  return listeners;
}

Listeners::~Listeners() { Shutdown(absl::ZeroDuration()); }

void Listeners::SetServing(bool serving) {
  for (const auto& [server, name] : {std::pair(inference_.get(), kInference),
                                     std::pair(admin_.get(), kModelAdmin)}) {
    server->GetHealthCheckService()->SetServingStatus("", serving);
    server->GetHealthCheckService()->SetServingStatus(name, serving);
  }
  on_serving_(serving);
}

void Listeners::StartServing() { SetServing(true); }

void Listeners::StopServing() {
  // gRPC then holds all names at NOT_SERVING, whatever is set afterwards.
  inference_->GetHealthCheckService()->Shutdown();
  admin_->GetHealthCheckService()->Shutdown();
  on_serving_(false);
}

void Listeners::SetModelServing(const std::string& model, bool serving) {
  inference_->GetHealthCheckService()->SetServingStatus(
      absl::StrCat("models/", model), serving);
}

void Listeners::Shutdown(absl::Duration patience) {
  const gpr_timespec deadline = ToGrpcDeadline(patience);
  inference_->Shutdown(deadline);
  admin_->Shutdown(deadline);
}

std::unique_ptr<SchedulerObserver> ModelHealth::ObserveScheduler(
    const std::string& model) {
  return next_.ObserveScheduler(model);
}

std::unique_ptr<DetectObserver> ModelHealth::ObserveDetection(
    const std::string& model) {
  return next_.ObserveDetection(model);
}

void ModelHealth::OnModelChanged(const ModelInfo& info) {
  if (listeners_ != nullptr) {
    listeners_->SetModelServing(info.name,
                                info.state == ModelState::kReady ||
                                    info.state == ModelState::kQuantizing);
  }
  next_.OnModelChanged(info);
}

void ModelHealth::OnModelRemoved(const std::string& model) {
  if (listeners_ != nullptr) listeners_->SetModelServing(model, false);
  next_.OnModelRemoved(model);
}

void ModelHealth::OnQuantizeStage(const std::string& model,
                                  const std::string& method,
                                  QuantizeStage stage) {
  next_.OnQuantizeStage(model, method, stage);
}

void ModelHealth::OnQuantizeDone(const std::string& model,
                                 const std::string& method,
                                 const absl::Status& status,
                                 absl::Duration duration) {
  next_.OnQuantizeDone(model, method, status, duration);
}

}  // namespace ounce::server
