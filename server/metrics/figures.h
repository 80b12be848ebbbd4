// How any part of the server sets a figure of the table (metrics.def), without
// knowing Prometheus:
//
//   figures.Set(metric::kKvUsedBytes, {"code"}, 4096);
//   figures.Add(metric::kRequests, {"code", "rejected"});
//
// The number and the type of what is given are checked by the compiler.
#ifndef OUNCE_SERVER_METRICS_FIGURES_H_
#define OUNCE_SERVER_METRICS_FIGURES_H_

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/time/time.h"

namespace ounce::server {

enum class MetricType { kGauge, kCounter, kHistogram };

// When a series (a metric with certain values of its labels) ends.
enum class SeriesEnd {
  kNever,    // with the process
  kModel,    // with the model: gauges at once, the others after one more scrape
  kVersion,  // as kModel, or when another version serves
  kRun,      // with the quantization
  kScrape,   // a figure that sources (Metrics::AddSource) give at each scrape;
             // gone when they no longer do
};

// A row of the table.
struct MetricSpec {
  const char* name;
  MetricType type;
  const char* unit;  // plural; empty for a flag
  std::vector<const char*> labels;
  SeriesEnd end;
  const char* set_by;
  std::vector<double> buckets;  // histograms: upper bounds
  const char* help;
};

const std::vector<MetricSpec>& MetricTable();

// Says which row, and holds its type and the number of its labels for the
// compiler.
template <MetricType type, size_t num_labels>
struct MetricKey {
  size_t row;
};

namespace metric {

enum Row : size_t {
#define LABELS(...)
#define GAUGE(id, ...) kRow##id,
#define COUNTER(id, ...) kRow##id,
#define HISTOGRAM(id, ...) kRow##id,
#include "server/metrics/metrics.def"
};

#define LABELS(...) (std::initializer_list<const char*>{__VA_ARGS__}.size())
#define OUNCE_METRIC_KEY(type, id, labels) \
  inline constexpr MetricKey<MetricType::type, labels> k##id{kRow##id};
#define GAUGE(id, name, unit, labels, ...) OUNCE_METRIC_KEY(kGauge, id, labels)
#define COUNTER(id, name, unit, labels, ...) \
  OUNCE_METRIC_KEY(kCounter, id, labels)
#define HISTOGRAM(id, name, unit, labels, ...) \
  OUNCE_METRIC_KEY(kHistogram, id, labels)
#include "server/metrics/metrics.def"
#undef OUNCE_METRIC_KEY

}  // namespace metric

// The values of a row's labels, in its order: {"code", "eos"}.
template <size_t num_labels>
struct LabelValues {
  template <typename... Text>
  requires(sizeof...(Text) == num_labels &&
           (std::is_convertible_v<Text, std::string> && ...))
      LabelValues(const Text&... text)
      : values{std::string(text)...} {}

  std::vector<std::string> values;
};

// Threads: any thread may call anything; nothing blocks.
class Figures {
 public:
  virtual ~Figures() = default;

  template <size_t n>
  void Set(MetricKey<MetricType::kGauge, n> key,
           const std::type_identity_t<LabelValues<n>>& labels, double value) {
    SetGauge(key.row, labels.values, value);
  }
  template <size_t n>
  void Add(MetricKey<MetricType::kCounter, n> key,
           const std::type_identity_t<LabelValues<n>>& labels, double by = 1) {
    AddToCounter(key.row, labels.values, by);
  }
  // For whoever counts by itself: the count since the server's start.
  template <size_t n>
  void SetTotal(MetricKey<MetricType::kCounter, n> key,
                const std::type_identity_t<LabelValues<n>>& labels,
                double total) {
    RaiseCounter(key.row, labels.values, total);
  }
  template <size_t n>
  void Observe(MetricKey<MetricType::kHistogram, n> key,
               const std::type_identity_t<LabelValues<n>>& labels,
               double value) {
    ObserveIn(key.row, labels.values, value);
  }

 protected:
  virtual void SetGauge(size_t row, const std::vector<std::string>& labels,
                        double value) = 0;
  virtual void AddToCounter(size_t row, const std::vector<std::string>& labels,
                            double by) = 0;
  virtual void RaiseCounter(size_t row, const std::vector<std::string>& labels,
                            double total) = 0;
  virtual void ObserveIn(size_t row, const std::vector<std::string>& labels,
                         double value) = 0;
};

// What a histogram of seconds observes: never less than 0, whatever clock the
// duration was read from.
inline double Seconds(absl::Duration duration) {
  return std::max(0.0, absl::ToDoubleSeconds(duration));
}

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_FIGURES_H_
