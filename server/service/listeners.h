// The two gRPC servers, each behind a guard: one for everybody, one for those
// who run the place, each with its services, grpc.health.v1 and reflection.
//
// Health names: "" (the start is over, nothing is missing, and the server is
// not shutting down) and the services' own names on both; on the public one
// also "models/NAME" for each model; "liveness" on both, SERVING for as long as
// there is an answer (health_service.h).
//
// Threads: any thread may call anything.
// Errors: kInvalidArgument when an address can't be listened on.
#ifndef OUNCE_SERVER_SERVICE_LISTENERS_H_
#define OUNCE_SERVER_SERVICE_LISTENERS_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/metrics/figures.h"
#include "server/net/peer.h"
#include "server/scheduler/model_catalog.h"
#include "server/service/guarded_server.h"
#include "server/service/tokens.h"

namespace ounce::server {

class Listeners {
 public:
  struct Options {
    std::string inference;  // HOST:PORT; port 0: a free one
    std::string admin;
    int max_message_bytes = 32 << 20;
    // Of the public one, fewer if the process may not open so many descriptors.
    int64_t max_connections = 1024;
    int64_t max_connections_per_peer = 256;
    absl::Duration idle_connection = absl::Minutes(5);
    absl::Duration connection_age = absl::ZeroDuration();  // zero: for ever
    PeerSet trusted_proxies = {};
    NewTlsSession inference_tls = nullptr;  // null: without TLS
    NewTlsSession admin_tls = nullptr;
    // Where those that clients' certificates name are written down; must
    // outlive the result. Null: nowhere.
    Identities* identities = nullptr;
    // That calls must have, for Inference the scope kInfer, for ModelAdmin
    // kAdmin; must outlive the result. Null: none.
    const Tokens* tokens = nullptr;
    // Where calls and connections are counted; must outlive the result. Null:
    // nowhere.
    Figures* figures = nullptr;
    // Where calls get their ids and the log hears of them; must outlive the
    // result. Null: nowhere.
    Reception* reception = nullptr;
    // Told what the health of "" becomes, for others who tell it, and what is
    // missing ("" of SetMissing's).
    std::function<void(bool serving, const std::string& missing)> on_serving =
        [](bool, const std::string&) {};
  };

  // Listens, not serving yet as far as health is concerned. The services must
  // outlive the result.
  static absl::StatusOr<std::unique_ptr<Listeners>> Start(
      const Options& options, const std::vector<NamedService>& inference,
      const std::vector<NamedService>& admin);

  ~Listeners();

  // HOST:PORT with the port that is really bound.
  const std::string& inference_address() const {
    return inference_.server->address();
  }
  const std::string& admin_address() const { return admin_.server->address(); }

  // Of "" and of the services' names, unless something is missing.
  void StartServing();
  // What is missing for them to serve, for people; empty: nothing, as at first.
  void SetMissing(const std::string& missing);
  // Of all names but "liveness", those of models too, and for good.
  void StopServing();
  void SetModelServing(const std::string& model, bool serving);
  // Its name is known no more.
  void RemoveModel(const std::string& model);

  // Asks the clients of the public one to go elsewhere; it takes no connection
  // any more. Calls go on, and come until clients have heard of it.
  void Retire() { inference_.server->Retire(); }

  // Takes no new calls, ends those that still run after `patience`, and waits.
  void Shutdown(absl::Duration patience);

 private:
  struct Listener {
    std::vector<std::string> names;  // of its services
    std::unique_ptr<GuardedServer> server;
  };

  explicit Listeners(const Options& options)
      : on_serving_(options.on_serving) {}

  void TellServing() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::function<void(bool, const std::string&)> on_serving_;
  Mutex mu_;
  bool started_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  std::string missing_ ABSL_GUARDED_BY(mu_);
  Listener inference_;
  Listener admin_;
};

// Passes on what a catalog tells, and keeps the health of models by it.
//
// Threads: any thread may call anything.
// Ownership: `next` must outlive it; listeners until they are replaced.
class ModelHealth final : public CatalogObserver {
 public:
  // `kept`: models that keep their name when they are gone, or can't be loaded;
  // it is NOT_SERVING then. `all_needed`: and so is the whole server.
  explicit ModelHealth(CatalogObserver& next, std::set<std::string> kept = {},
                       bool all_needed = false)
      : next_(next), kept_(std::move(kept)), all_needed_(all_needed) {}

  // They hear of the models that there are, and of all that follows. Null: from
  // now on nobody does.
  void SetListeners(Listeners* listeners);

  std::unique_ptr<SchedulerObserver> ObserveScheduler(
      const std::string& model) override;
  std::unique_ptr<DetectObserver> ObserveDetection(
      const std::string& model) override;
  void OnModelChanged(const ModelInfo& info) override;
  void OnModelRemoved(const std::string& model) override;
  void OnQuantizeStage(const std::string& model, const std::string& method,
                       QuantizeStage stage) override;
  void OnQuantizeDone(const std::string& model, const std::string& method,
                      const absl::Status& status,
                      absl::Duration duration) override;
  void OnSaveDone(const std::string& model, const absl::Status& status,
                  int64_t weight_bytes, absl::Duration duration) override;
  void OnEvaluated(const std::string& model,
                   const TextQuality& quality) override;
  void OnDetectionEvaluated(const std::string& model,
                            const DetectionQuality& quality) override;

 private:
  void TellMissing() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  CatalogObserver& next_;
  const std::set<std::string> kept_;
  const bool all_needed_;
  Mutex mu_;
  std::map<std::string, bool> serving_ ABSL_GUARDED_BY(mu_);  // by model
  Listeners* listeners_ ABSL_GUARDED_BY(mu_) = nullptr;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_LISTENERS_H_
