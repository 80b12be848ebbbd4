// grpc.health.v1: tells whoever asks, once (Check) or at each change (Watch),
// whether a name SERVES. It is our own because gRPC's builds a message of
// whatever comes (reception.h).
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_SERVICE_HEALTH_SERVICE_H_
#define OUNCE_SERVER_SERVICE_HEALTH_SERVICE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/net/peer.h"

namespace ounce::server {

// Both methods raw (reception.h).
using RawHealth = grpc::health::v1::Health::WithRawCallbackMethod_Check<
    grpc::health::v1::Health::WithRawCallbackMethod_Watch<
        grpc::health::v1::Health::Service>>;

class HealthService final : public RawHealth {
 public:
  // There from the start, and SERVING for as long as there is an answer.
  static constexpr char kLiveness[] = "liveness";
  // At a time.
  static constexpr size_t kMaxWatchesPerPeer = 256;

  // Must outlive its server.
  explicit HealthService(PeerSet trusted_proxies);

  // A new name, or what has become of one.
  void SetServing(const std::string& name, bool serving);
  // Nobody knows it any more.
  void Remove(const std::string& name);
  // For good, of all names that there are or will be but kLiveness.
  void StopServing();
  // Ends every Watch, when it has told what it has to, and those to come.
  void EndWatches();

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Watch(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;

 private:
  class Watcher;

  absl::StatusOr<Watcher*> Add(const std::string& peer,
                               const std::string& name);
  void Remove(const Watcher& watcher);
  // Tells those who watch `name`.
  void Tell(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  grpc::health::v1::HealthCheckResponse::ServingStatus StatusOf(
      const std::string& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const PeerSet trusted_proxies_;
  Mutex mu_;  // before those of the watchers
  std::map<std::string, bool> serving_ ABSL_GUARDED_BY(mu_);
  // By peer.
  std::multimap<std::string, Watcher*> watchers_ ABSL_GUARDED_BY(mu_);
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_HEALTH_SERVICE_H_
