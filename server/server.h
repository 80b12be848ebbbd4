// The whole server, wired together.
#ifndef OUNCE_SERVER_SERVER_H_
#define OUNCE_SERVER_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/thread_pool.h"
#include "server/announce.h"
#include "server/config.h"
#include "server/file_reloads.h"
#include "server/frontend/front_end.h"
#include "server/frontend/picture_reader.h"
#include "server/metrics/metrics.h"
#include "server/net/identities.h"
#include "server/net/tls.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/model_catalog.h"
#include "server/scheduler/picture_memory.h"
#include "server/service/inference_service.h"
#include "server/service/listeners.h"
#include "server/service/model_admin_service.h"
#include "server/service/oip_admin_service.h"
#include "server/service/oip_service.h"
#include "server/service/server_info.h"
#include "server/service/tokens.h"
#include "server/trace/span_exporter.h"
#include "server/trace/tracer.h"
#include "server/trace/work.h"

namespace ounce::server {

// Start, then LoadModels, then Drain, then SendLastSpans, then the end.
//
// Threads: one calls it.
class Server {
 public:
  // Listens; health says NOT_SERVING until LoadModels has ended well.
  // Errors: kInvalidArgument when an address can't be listened on,
  //   kResourceExhausted when threads can't be had.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Config& config);

  ~Server();

  // Loads the models of the configuration; from then on it serves.
  // Errors: as ModelCatalog::Load, with the model's name.
  absl::Status LoadModels();

  // Is not ready any more, and serves on for as long as the configuration says,
  // so that clients and what stands between can notice. Then asks clients to go
  // elsewhere, refuses new work, lets running requests finish for as long as
  // the configuration says, and closes the listeners.
  void Drain();

  // Sends what is traced and not sent yet, for less than a second. Last.
  void SendLastSpans();

  const Addresses& addresses() const { return addresses_; }

 private:
  Server(const Config& config, const PeerSet& trusted_proxies,
         std::unique_ptr<TlsServer> tls, std::unique_ptr<Tokens> tokens,
         std::unique_ptr<SpanExporter> spans);

  ServerInfo Info() const;
  ServerStatus Status() const;
  // What a listener, by its setting, begins connections with; null without TLS.
  NewTlsSession NewTls(const std::string& listener) const;
  // Tells when the certificate ends, and watches the files that may change.
  absl::Status WatchFiles();
  void TellExpiry();
  // Tells the tracer, if there is one.
  void TraceLoad(const std::string& name, Work work,
                 const absl::StatusOr<ModelInfo>& loaded);

  // In order: each may use those above it.
  const Config config_;
  const std::string isa_;
  const Clock& clock_;
  const absl::Time start_;                // by clock_
  const absl::Time system_start_;         // for people
  const std::unique_ptr<TlsServer> tls_;  // or null
  Identities identities_;
  const std::unique_ptr<Tokens> tokens_;       // or null
  const std::unique_ptr<SpanExporter> spans_;  // or null: nothing is traced
  const std::unique_ptr<Tracer> tracer_;       // or null
  ThreadPool pool_;
  const std::unique_ptr<Metrics> metrics_;
  ModelHealth health_;
  MemoryBudget memory_;  // outlives all that is counted
  const std::unique_ptr<FigureSource> span_figures_;  // or null
  const std::unique_ptr<FigureSource> memory_figures_;
  PictureMemory picture_memory_;  // outlives every picture
  const std::unique_ptr<ModelCatalog> catalog_;
  const std::unique_ptr<FigureSource> load_figures_;
  const PictureReader pictures_;
  Reception reception_;
  FrontEnd front_end_;
  InferenceService inference_;
  ModelAdminService admin_;
  OipService oip_;
  OipAdminService oip_admin_;
  const std::unique_ptr<FigureSource> status_;  // asks catalog and budget
  std::unique_ptr<Listeners> listeners_;
  Addresses addresses_;
  std::unique_ptr<FileReloads> file_reloads_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVER_H_
