#include "server/service/guarded_server.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "base/status_macros.h"
#include "server/metrics/connection_figures.h"
#include "server/service/deadline.h"
#include "server/service/early_refusals.h"
#include "server/service/reflection_service.h"
#include "server/service/rpc_metrics.h"

namespace ounce::server {
namespace {

// Of requests that come in at a time, in messages of the largest size.
constexpr int64_t kPeerMessages = 2;
constexpr int64_t kMessages = 4;
// More than the relay lets in and answers take: gRPC would end any call, not
// the one of whoever fills it.
constexpr int64_t kMinBufferBytes = int64_t{1} << 30;

constexpr int kMaxStreamsPerConnection = 1024;
constexpr int kMaxHeaderBytes = 16 << 10;  // of a call, unpacked
constexpr int kPingEveryMs = 60'000;  // a silent peer, to see whether it lives
constexpr int64_t kLogEveryMs = 5'000;
constexpr int kPingTimeoutMs = 20'000;

// gRPC's errors, mostly of what clients do: one now and then is enough.
void LogOfGrpc(gpr_log_func_args* line) {
  static std::atomic<int64_t> next_ms{0};
  if (line->severity != GPR_LOG_SEVERITY_ERROR) return;
  const int64_t now = absl::ToUnixMillis(Clock::Real().Now());
  int64_t next = next_ms;
  if (now < next || !next_ms.compare_exchange_strong(next, now + kLogEveryMs)) {
    return;
  }
  spdlog::warn("gRPC: {}", line->message);
}

void SetUpOnce() {
  static const bool once = [] {
    // Else every malformed message of a client is a line in the log.
    google::protobuf::SetLogHandler(nullptr);
    gpr_set_log_function(&LogOfGrpc);
    return true;
  }();
  static_cast<void>(once);
}

void SetLimits(const GuardedServer::Options& options,
               grpc::ServerBuilder* builder) {
  grpc::ResourceQuota quota(options.setting);
  quota.Resize(static_cast<size_t>(std::max(
      kMinBufferBytes, 2 * kMessages * int64_t{options.max_message_bytes})));
  builder->SetResourceQuota(quota);
  builder->SetMaxReceiveMessageSize(options.max_message_bytes);
  for (const auto algorithm : {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP}) {
    builder->SetCompressionAlgorithmSupportStatus(algorithm, false);
  }
  const auto set = [&](const char* name, int value) {
    builder->AddChannelArgument(name, value);
  };
  set(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  set(GRPC_ARG_MAX_METADATA_SIZE, kMaxHeaderBytes);
  set(GRPC_ARG_KEEPALIVE_TIME_MS, kPingEveryMs);
  set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
  set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      static_cast<int>(absl::ToInt64Milliseconds(options.min_client_ping)));
  set(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
      static_cast<int>(absl::ToInt64Milliseconds(options.idle_connection)));
  if (options.connection_age > absl::ZeroDuration()) {
    set(GRPC_ARG_MAX_CONNECTION_AGE_MS,
        static_cast<int>(absl::ToInt64Milliseconds(options.connection_age)));
  }
  // Windows stay at 64 KiB but for streams whose message is larger, which the
  // relay holds back; a probe would widen all of them.
  set(GRPC_ARG_HTTP2_BDP_PROBE, 0);
}

std::shared_ptr<grpc::ServerCredentials> CredentialsFor(
    const TokenCheck& check) {
  if (check.tokens == nullptr) return grpc::InsecureServerCredentials();
  // Those of the relay's Unix sockets, and of no other connection. gRPC asks no
  // processor for connections that it does not hold to be secure.
  auto credentials = grpc::experimental::LocalServerCredentials(UDS);
  credentials->SetAuthMetadataProcessor(CheckTokens(check));
  return credentials;
}

Relay::Options RelayOptions(const GuardedServer::Options& options,
                            const Clock& clock) {
  Relay::Options relay;
  relay.name = options.setting;
  relay.address = options.address;
  relay.max_connections = options.max_connections;
  relay.max_connections_per_peer = options.max_connections_per_peer;
  relay.trusted_proxies = options.trusted_proxies;
  relay.new_tls = options.new_tls;
  relay.identities = options.identities;
  if (options.reception != nullptr) {
    relay.complete = CompleteRefusals(options.setting, *options.reception,
                                      options.figures, clock);
  }
  const int64_t message = options.max_message_bytes;
  relay.shares.large_messages = {kPeerMessages * message, kMessages * message};
  return relay;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GuardedServer>> GuardedServer::Start(
    const Options& options, const std::vector<NamedService>& services,
    const Clock& clock) {
  SetUpOnce();
  std::unique_ptr<GuardedServer> guarded(new GuardedServer());
  ASSIGN_OR_RETURN(guarded->relay_,
                   Relay::Create(RelayOptions(options, clock),
                                 guarded->RelayCallbacks(options), clock));
  grpc::ServerBuilder builder;
  SetLimits(options, &builder);
  guarded->acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      CredentialsFor(options.token_check));
  std::vector<std::string> names;
  for (const NamedService& service : services) {
    names.push_back(service.name);
    builder.RegisterService(service.service);
  }
  guarded->health_ = std::make_unique<HealthService>(options.trusted_proxies);
  builder.RegisterService(guarded->health_.get());
  guarded->reflection_ = CreateReflectionServices(std::move(names));
  for (const auto& reflection : guarded->reflection_) {
    builder.RegisterService(reflection.get());
  }
  std::vector<
      std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
      interceptors;
  if (options.figures != nullptr) {
    interceptors = CountRpcs(*options.figures, clock);
  }
  if (options.reception != nullptr) {
    interceptors.push_back(
        WatchCalls(options.callers, *options.reception, clock));
  }
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  guarded->server_ = builder.BuildAndStart();
  if (guarded->server_ == nullptr) {
    return absl::InternalError(options.setting + ": gRPC cannot start");
  }
  guarded->relay_->Start();
  return guarded;
}

Relay::Callbacks GuardedServer::RelayCallbacks(const Options& options) {
  Relay::Callbacks callbacks;
  // Not before Relay::Start: the acceptor is there then.
  callbacks.on_connection = [this](int fd) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters
        connection;
    connection.fd = fd;
    acceptor_->HandleNewConnection(&connection);
  };
  callbacks.on_count = [](int) {};
  callbacks.on_cut = [](absl::string_view) {};
  if (options.figures != nullptr) {
    CountConnections(options.setting, *options.figures, &callbacks);
  }
  return callbacks;
}

GuardedServer::~GuardedServer() {
  Shutdown(absl::ZeroDuration());
  // No connection may come in any more, and none may hold a call.
  server_.reset();
  relay_.reset();
}

void GuardedServer::Retire() { relay_->StopAccepting(); }

void GuardedServer::Shutdown(absl::Duration patience) {
  if (relay_ != nullptr) relay_->StopAccepting();
  if (health_ != nullptr) health_->EndWatches();
  if (server_ != nullptr) server_->Shutdown(ToGrpcDeadline(patience));
}

}  // namespace ounce::server
