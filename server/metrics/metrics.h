// Every metric of the server, in one table (families.cc), and their endpoint.
//
// Metrics learns by being told: catalog and schedulers call it as observers,
// the service and PictureMemory by name. Resident memory is read when scraped.
//
// Threads: any thread may call anything; nothing blocks.
#ifndef OUNCE_SERVER_METRICS_METRICS_H_
#define OUNCE_SERVER_METRICS_METRICS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/scheduler/model_catalog.h"
#include "server/scheduler/stats.h"

namespace ounce::server {

// A row of the table.
struct MetricSpec {
  enum Type { kGauge, kCounter, kHistogram };
  const char* name;
  Type type;
  const char* help;
  std::vector<const char*> labels;
  std::vector<double> buckets = {};  // histograms: upper bounds
};

const std::vector<MetricSpec>& MetricTable();

struct BuildInfo {
  std::string version;   // of Ounce
  std::string isa;       // that the kernels use: "avx2"
  std::string compiler;  // "g++ 12.2.0"
};

class Metrics : public CatalogObserver {
 public:
  static std::unique_ptr<Metrics> Create(const BuildInfo& build);

  // A Generate that no scheduler accepted; `model` may be empty.
  virtual void OnRejected(const std::string& model) = 0;

  // A DetectObjects that no scheduler accepted, and why; `model` may be empty.
  virtual void OnDetectRejected(const std::string& model,
                                const absl::Status& why) = 0;

  // All pictures in flight, and their bytes; one call at a time.
  virtual void OnPictures(int64_t pictures, int64_t bytes) = 0;

  // What /metrics answers now.
  virtual std::string Text() const = 0;

  // Serves http://`address`/metrics (HOST:PORT; port 0: a free one) from now
  // on; returns HOST:PORT with the port that is bound. Once.
  // Errors: kInvalidArgument when the address can't be listened on.
  virtual absl::StatusOr<std::string> Listen(const std::string& address) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_METRICS_H_
