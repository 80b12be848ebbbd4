#include "server/service/call_watch.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "base/guard.h"
#include "base/mutex.h"
#include "server/service/call_record.h"
#include "server/service/call_trace.h"
#include "server/service/grpc_status.h"
#include "server/service/rpc_metrics.h"

namespace ounce::server {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerInterceptorFactoryInterface;
using grpc::experimental::ServerRpcInfo;

constexpr size_t kMaxMethodBytes = 128;  // of one that a caller made up

std::string MethodOf(const char* method) {
  std::string_view name = method;
  if (name.starts_with('/')) name.remove_prefix(1);
  return std::string(name.substr(0, kMaxMethodBytes));
}

// One call. Without memory it goes unwatched.
class CallWatcher final : public Interceptor {
 public:
  CallWatcher(Callers callers, Reception& reception, const Clock& clock,
              ServerRpcInfo& call)
      : callers_(callers),
        reception_(reception),
        clock_(clock),
        context_(*call.server_context()),
        method_(call.method()),
        start_(clock.Now()) {}

  // gRPC lets go of it with the call's context, when the reactor is done and
  // its answer went to gRPC: so all have told the record what they know.
  ~CallWatcher() override {
    if (record_ == nullptr) return;
    reception_.calls().Remove(&context_, record_.get());
    if (!end_.has_value()) return;
    (void)Guarded([&] {
      Tell();
      return absl::OkStatus();
    });
  }

  void Intercept(InterceptorBatchMethods* methods) override {
    (void)Guarded([&] {
      if (methods->QueryInterceptionHookPoint(
              InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
        Begin(*methods);
      }
      if (record_ != nullptr && methods->QueryInterceptionHookPoint(
                                    InterceptionHookPoints::PRE_SEND_STATUS)) {
        Answer(methods);
      }
      // Once, when it is known whether the caller has got it.
      if (record_ != nullptr && methods->QueryInterceptionHookPoint(
                                    InterceptionHookPoints::POST_RECV_CLOSE)) {
        End();
      }
      return absl::OkStatus();
    });
    methods->Proceed();
  }

 private:
  struct Sent {
    grpc::StatusCode code = grpc::UNKNOWN;
    std::string reason;
  };

  void Begin(InterceptorBatchMethods& methods) {
    const auto& metadata = *methods.GetRecvInitialMetadata();
    std::string method = MethodOf(method_);
    std::optional<TraceContext> trace;
    if (reception_.tracer() != nullptr && !absl::StartsWith(method, "grpc.")) {
      trace = BeginTrace(*reception_.tracer(), metadata);
    }
    record_ = std::make_shared<CallRecord>(
        reception_.RequestIdIn(metadata), std::move(method),
        reception_.PeerOf(context_), std::move(trace));
    reception_.calls().Insert(&context_, record_);
  }

  void Answer(InterceptorBatchMethods* methods) {
    methods->GetSendTrailingMetadata()->emplace(kRequestIdKey,
                                                record_->request_id());
    const grpc::Status status = methods->GetSendStatus();
    {
      MutexLock lock(&mu_);
      sent_ = {status.error_code(), ReasonIn(status)};
    }
    if (status.ok()) return;
    const grpc::Status shown = callers_ == Callers::kStrangers
                                   ? WithoutUnforeseenWords(status)
                                   : status;
    methods->ModifySendStatus(WithRequestId(shown, record_->request_id()));
    reception_.LogFailure(*record_, status);
  }

  // What only the context knows; a scheduler may be at work for the call yet.
  void End() {
    if (!reception_.request_log().on() && !record_->traced()) return;
    const absl::Time now = clock_.Now();
    gone_ = WhyGone(context_, clock_, start_, now);
    CallEnd end = {.code = {}, .words = {}, .start = start_, .authority = {}};
    end.words.total = now - start_;
    const grpc::string_ref authority = context_.ExperimentalGetAuthority();
    end.authority.assign(authority.data(), authority.size());
    end_ = std::move(end);
  }

  void Tell() {
    Sent sent;
    {
      MutexLock lock(&mu_);
      sent = sent_;
    }
    CallEnd& end = *end_;
    end.code = SeenByCaller(gone_, sent.code);
    end.words.code = CodeName(end.code);
    if (end.code == sent.code) end.words.reason = sent.reason;
    reception_.request_log().Write(*record_, end.words);
    if (record_->traced()) reception_.tracer()->Record(WorkOf(*record_, end));
  }

  const Callers callers_;
  Reception& reception_;
  const Clock& clock_;
  const grpc::ServerContextBase& context_;  // outlives the interceptors
  const char* const method_;
  const absl::Time start_;
  std::shared_ptr<CallRecord> record_;  // once the call has begun
  // Of the caller, once it is over for it.
  std::optional<CallEnd> end_;
  std::optional<grpc::StatusCode> gone_;
  // The end may be noticed while a handler still writes its answer.
  Mutex mu_;
  Sent sent_ ABSL_GUARDED_BY(mu_);
};

class CallWatchers final : public ServerInterceptorFactoryInterface {
 public:
  CallWatchers(Callers callers, Reception& reception, const Clock& clock)
      : callers_(callers), reception_(reception), clock_(clock) {}

  Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    return new CallWatcher(callers_, reception_, clock_, *info);
  }

 private:
  const Callers callers_;
  Reception& reception_;
  const Clock& clock_;
};

}  // namespace

std::unique_ptr<ServerInterceptorFactoryInterface> WatchCalls(
    Callers callers, Reception& reception, const Clock& clock) {
  return std::make_unique<CallWatchers>(callers, reception, clock);
}

}  // namespace ounce::server
