// The metrics of the server, their sources and their endpoint.
//
// Every metric is a row of one table, metrics.def. Metrics learns by being
// told: catalog and schedulers call it as observers, the service and
// PictureMemory by name, all others through figures() or as a source at each
// scrape.
//
// Threads: any thread may call anything; nothing blocks.
#ifndef OUNCE_SERVER_METRICS_METRICS_H_
#define OUNCE_SERVER_METRICS_METRICS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "server/metrics/figures.h"
#include "server/metrics/status_json.h"
#include "server/net/tls.h"
#include "server/scheduler/model_catalog.h"
#include "server/scheduler/stats.h"

namespace ounce::server {

struct BuildInfo {
  std::string version;   // of Ounce
  std::string isa;       // that the kernels use: "avx2"
  std::string compiler;  // "g++ 12.2.0"
};

// Ends, when destroyed, what AddSource or ServeStatus began; waits for a call
// that runs.
class FigureSource {
 public:
  virtual ~FigureSource() = default;
};

class Metrics : public CatalogObserver {
 public:
  // `clock` must outlive it.
  static std::unique_ptr<Metrics> Create(const BuildInfo& build,
                                         const Clock& clock = Clock::Real());

  // To set any figure of the table.
  virtual Figures& figures() = 0;

  // Calls `source` at each scrape, until the result is destroyed: it sets what
  // is better read than told. One call at a time; it must not block, and
  // neither add nor end sources.
  [[nodiscard]] virtual std::unique_ptr<FigureSource> AddSource(
      std::function<void(Figures&)> source) = 0;

  // From now on /status.json answers, and calls `status` for that, at most
  // twice a second, until the result is destroyed: one at a time. It must not
  // block.
  [[nodiscard]] virtual std::unique_ptr<FigureSource> ServeStatus(
      std::function<ServerStatus()> status) = 0;

  // A Generate that no scheduler accepted, and why; `model` may be empty.
  virtual void OnRejected(const std::string& model,
                          const absl::Status& why) = 0;

  // The same for a DetectObjects.
  virtual void OnDetectRejected(const std::string& model,
                                const absl::Status& why) = 0;

  // All pictures in flight, and their bytes; one call at a time.
  virtual void OnPictures(int64_t pictures, int64_t bytes) = 0;

  // A scrape: what /metrics answers now.
  virtual std::string Text() = 0;

  // What /readyz says: not before the first true (the server starts, and the
  // models that load now are named), not while something is `missing`, nor
  // after the false that follows without (the server shuts down).
  virtual void SetServing(bool serving, const std::string& missing = "") = 0;

  // Serves http://`address`/metrics, /healthz, /readyz, /status.json and the
  // page to look at, / (net/listen_socket.h says which forms there are) from
  // now on, or https:// with `new_tls`; returns HOST:PORT with the port that is
  // bound. `hosts`: as HttpEndpoint has them. Once.
  // Errors: as ListenOn, HttpEndpoint::Start and Relay::Create.
  virtual absl::StatusOr<std::string> Listen(
      const std::string& address, const NewTlsSession& new_tls = nullptr,
      const std::optional<std::vector<std::string>>& hosts = std::nullopt) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_METRICS_H_
