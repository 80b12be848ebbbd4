#include "server/service/rpc_metrics.h"

#include <google/protobuf/descriptor.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <atomic>
#include <optional>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/guard.h"
#include "inference/grpc_predict_v2.pb.h"
#include "ounce/v1/inference.pb.h"
#include "ounce/v1/model_admin.pb.h"
#include "server/frontend/gave_up.h"
#include "server/service/deadline.h"
#include "server/service/grpc_status.h"

namespace ounce::server {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerInterceptorFactoryInterface;
using grpc::experimental::ServerRpcInfo;

// "ounce.v1.Inference/Generate", ...: of our own services.
const std::set<std::string>& OwnRpcs() {
  static const auto* const kRpcs = [] {
    auto* rpcs = new std::set<std::string>;
    for (const google::protobuf::FileDescriptor* file :
         {v1::GenerateRequest::descriptor()->file(),
          v1::QuantizeRequest::descriptor()->file(),
          inference::ModelInferRequest::descriptor()->file()}) {
      for (int i = 0; i < file->service_count(); ++i) {
        const auto& service = *file->service(i);
        for (int k = 0; k < service.method_count(); ++k) {
          rpcs->insert(absl::StrCat(service.full_name(), "/",
                                    service.method(k)->name()));
        }
      }
    }
    return rpcs;
  }();
  return *kRpcs;
}

// The label of a method, "/" before it: of what no server of ours has, "other",
// so that callers can't make labels.
std::string LabelOf(const char* method) {
  static const auto* const kOthers = new std::set<std::string>{
      "grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch",
      "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
      "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};
  std::string name = method;
  if (name.starts_with('/')) name.erase(0, 1);
  return OwnRpcs().contains(name) || kOthers->contains(name) ? name : "other";
}

// One call.
class RpcCounter final : public Interceptor {
 public:
  RpcCounter(Figures& figures, const Clock& clock, ServerRpcInfo& call)
      : figures_(figures),
        clock_(clock),
        context_(*call.server_context()),
        rpc_(LabelOf(call.method())),
        start_(clock.Now()) {}

  // gRPC lets go of it with the call's context, when the server's answer is
  // known too, which may come after the caller has gone.
  ~RpcCounter() override {
    if (!end_.has_value()) return;
    (void)Guarded([&] {
      figures_.Add(metric::kRpcs, {rpc_, CodeName(SeenByCaller(gone_, sent_))});
      figures_.Observe(metric::kRpcDuration, {rpc_}, Seconds(*end_ - start_));
      return absl::OkStatus();
    });
  }

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            InterceptionHookPoints::PRE_SEND_STATUS)) {
      sent_ = methods->GetSendStatus().error_code();
    }
    // Once, when it is known whether the caller has got it.
    if (methods->QueryInterceptionHookPoint(
            InterceptionHookPoints::POST_RECV_CLOSE)) {
      end_ = clock_.Now();
      gone_ = WhyGone(context_, clock_, start_, *end_);
    }
    methods->Proceed();
  }

 private:
  Figures& figures_;
  const Clock& clock_;
  const grpc::ServerContextBase& context_;  // outlives the interceptors
  const std::string rpc_;
  const absl::Time start_;
  // The end may be noticed while a handler still writes its answer.
  std::atomic<grpc::StatusCode> sent_ = grpc::UNKNOWN;
  // Of the caller, once it is over for it.
  std::optional<absl::Time> end_;
  std::optional<grpc::StatusCode> gone_;
};

class RpcCounters final : public ServerInterceptorFactoryInterface {
 public:
  RpcCounters(Figures& figures, const Clock& clock)
      : figures_(figures), clock_(clock) {}

  Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    return new RpcCounter(figures_, clock_, *info);
  }

 private:
  Figures& figures_;
  const Clock& clock_;
};

}  // namespace

std::optional<grpc::StatusCode> WhyGone(const grpc::ServerContextBase& context,
                                        const Clock& clock, absl::Time start,
                                        absl::Time now) {
  if (!context.IsCancelled()) return std::nullopt;
  const absl::Time deadline = FromGrpcDeadline(context.raw_deadline(), clock);
  return GaveUpAtDeadline(start, deadline, now) ? grpc::DEADLINE_EXCEEDED
                                                : grpc::CANCELLED;
}

grpc::StatusCode SeenByCaller(std::optional<grpc::StatusCode> gone,
                              grpc::StatusCode sent) {
  const bool found_why =
      sent == grpc::CANCELLED || sent == grpc::DEADLINE_EXCEEDED;
  return gone.has_value() && !found_why ? *gone : sent;
}

bool IsOwnRpc(const std::string& method) { return OwnRpcs().contains(method); }

std::vector<std::unique_ptr<ServerInterceptorFactoryInterface>> CountRpcs(
    Figures& figures, const Clock& clock) {
  for (const std::string& rpc : OwnRpcs()) {
    for (int code = grpc::OK; code <= grpc::UNAUTHENTICATED; ++code) {
      figures.Add(metric::kRpcs,
                  {rpc, CodeName(static_cast<grpc::StatusCode>(code))}, 0);
    }
  }
  std::vector<std::unique_ptr<ServerInterceptorFactoryInterface>> creators;
  creators.push_back(std::make_unique<RpcCounters>(figures, clock));
  return creators;
}

}  // namespace ounce::server
