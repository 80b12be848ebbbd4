// A gRPC server behind a Relay (server/net/relay.h), which accepts for it and
// holds its clients to their limits.
//
// What gRPC itself is told: connections without a call are closed after a while
// (with GOAWAY, so that no call is lost); pings are welcome every 5 s and more
// seldom, with and without calls; clients hear that headers have 16 KiB;
// compressed requests are refused, because their true size is known only after
// they were unpacked; its buffers are larger than all that the relay lets in.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_SERVICE_GUARDED_SERVER_H_
#define OUNCE_SERVER_SERVICE_GUARDED_SERVER_H_

#include <grpcpp/impl/service_type.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "server/metrics/figures.h"
#include "server/net/relay.h"
#include "server/service/call_watch.h"
#include "server/service/health_service.h"
#include "server/service/reception.h"
#include "server/service/token_check.h"

namespace ounce::server {

// A service and its full name, "ounce.v1.Inference".
struct NamedService {
  std::string name;
  grpc::Service* service;
};

class GuardedServer {
 public:
  struct Options {
    std::string setting;  // "listen"
    std::string address;  // HOST:PORT
    int max_message_bytes = 32 << 20;
    int max_connections = 1024;
    int max_connections_per_peer = 256;
    absl::Duration idle_connection = absl::Minutes(5);
    absl::Duration connection_age = absl::ZeroDuration();  // zero: for ever
    // Who pings more often is sent away. Clients of Google's libraries ping
    // every 10 s at most, of gRPC's own as often as they are told.
    absl::Duration min_client_ping = absl::Seconds(5);
    PeerSet trusted_proxies = {};
    NewTlsSession new_tls = nullptr;   // null: without TLS
    Identities* identities = nullptr;  // of clients' certificates
    TokenCheck token_check = {};
    // Where calls and connections are counted; must outlive the result. Null:
    // nowhere.
    Figures* figures = nullptr;
    // Where calls get their ids and the log hears of them; must outlive the
    // result. Null: nowhere.
    Reception* reception = nullptr;
    Callers callers = Callers::kStrangers;
  };

  // Listens and serves `services`, with health and reflection.
  // Ownership: they and `clock` must outlive the result.
  // Errors: as Relay's; kInternal when gRPC can't start.
  static absl::StatusOr<std::unique_ptr<GuardedServer>> Start(
      const Options& options, const std::vector<NamedService>& services,
      const Clock& clock = Clock::Real());

  ~GuardedServer();

  const std::string& address() const { return relay_->address(); }
  HealthService& health() { return *health_; }

  // Takes no new connection, and asks clients to take their next calls
  // elsewhere (GOAWAY); calls that there are go on, and come as long as a
  // client has not heard of it.
  void Retire();

  // Takes no new connection and no new call, ends those that still run after
  // `patience`, and waits.
  void Shutdown(absl::Duration patience);

 private:
  GuardedServer() = default;

  Relay::Callbacks RelayCallbacks(const Options& options);

  // In the order in which they are needed.
  std::unique_ptr<HealthService> health_;
  std::vector<std::unique_ptr<grpc::Service>> reflection_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<Relay> relay_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_GUARDED_SERVER_H_
