// The table of metrics as Prometheus' families.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_METRICS_FAMILIES_H_
#define OUNCE_SERVER_METRICS_FAMILIES_H_

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <string>
#include <vector>

#include "server/metrics/metrics.h"

namespace ounce::server {

// Rows of the table; the order of both is the same.
enum MetricId {
  kBuildInfo,
  kResidentBytes,
  kPeakResidentBytes,
  kModelState,
  kWeightBytes,
  kStoredBytes,
  kCheckpointBytes,
  kSavedBytes,
  kSavedRatio,
  kKvCapacityBytes,
  kKvUsedBytes,
  kQueued,
  kRunning,
  kRequests,
  kPromptTokens,
  kGeneratedTokens,
  kTimeToFirstToken,
  kTimePerOutputToken,
  kRequestDuration,
  kQueueDuration,
  kQuantizations,
  kQuantizationDuration,
  kQuantizationStage,
  kDetectRequests,
  kDetectDuration,
  kDetectQueueDuration,
  kDetectDecodeDuration,
  kDetectModelDuration,
  kDetectBatchPictures,
  kPictures,
  kPictureBytes,
  kNumMetrics
};

// The registry with a family per row of the table.
class Families {
 public:
  Families();

  // `values` in the order of the row's labels. The same values give the same
  // metric.
  prometheus::Gauge& gauge(MetricId id, const std::vector<std::string>& values);
  prometheus::Counter& counter(MetricId id,
                               const std::vector<std::string>& values);
  prometheus::Histogram& histogram(MetricId id,
                                   const std::vector<std::string>& values);
  void Remove(MetricId id, prometheus::Gauge* gauge);

  std::vector<prometheus::MetricFamily> Collect() const {
    return registry_.Collect();
  }

 private:
  struct Any {  // one of them
    prometheus::Family<prometheus::Gauge>* gauge = nullptr;
    prometheus::Family<prometheus::Counter>* counter = nullptr;
    prometheus::Family<prometheus::Histogram>* histogram = nullptr;
  };

  prometheus::Registry registry_;
  std::vector<Any> families_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_FAMILIES_H_
