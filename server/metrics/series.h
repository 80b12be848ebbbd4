// The series of all metrics: a value per row of the table and per values of its
// labels, and when each ends.
//
// A handle may be kept and set for as long as one likes: when its series has
// ended, nobody sees it any more.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_METRICS_SERIES_H_
#define OUNCE_SERVER_METRICS_SERIES_H_

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/metrics/figures.h"

namespace ounce::server {

class Series {
 public:
  // `clock` must outlive it.
  explicit Series(const Clock& clock);

  // The same values give the same handle, for as long as the series lasts.
  template <size_t n>
  std::shared_ptr<prometheus::Gauge> Get(
      MetricKey<MetricType::kGauge, n> key,
      const std::type_identity_t<LabelValues<n>>& labels) {
    return GetGauge(key.row, labels.values);
  }
  template <size_t n>
  std::shared_ptr<prometheus::Counter> Get(
      MetricKey<MetricType::kCounter, n> key,
      const std::type_identity_t<LabelValues<n>>& labels) {
    return GetCounter(key.row, labels.values);
  }
  template <size_t n>
  std::shared_ptr<prometheus::Histogram> Get(
      MetricKey<MetricType::kHistogram, n> key,
      const std::type_identity_t<LabelValues<n>>& labels) {
    return GetHistogram(key.row, labels.values);
  }
  std::shared_ptr<prometheus::Gauge> GetGauge(
      size_t row, const std::vector<std::string>& labels);
  std::shared_ptr<prometheus::Counter> GetCounter(
      size_t row, const std::vector<std::string>& labels);
  std::shared_ptr<prometheus::Histogram> GetHistogram(
      size_t row, const std::vector<std::string>& labels);

  // The series of a model appear from here until EndModel. What is got for a
  // model outside of that counts for the model "", which never ends (counters,
  // histograms), or is seen by nobody (gauges): a call may name a model that
  // has just gone.
  void StartModel(const std::string& model);
  // Gauges end now. Counters and histograms, so that their last values are not
  // lost, after the next Collect, or after ten minutes without one.
  void EndModel(const std::string& model);

  // Ends the model's kVersion series of versions other than `version`.
  void EndOtherVersions(const std::string& model, const std::string& version);
  // Ends the model's kRun series.
  void EndRun(const std::string& model);
  // Ends all kScrape series.
  void EndScrape();

  // The values of the model's gauges or counters in a row that has "model" as
  // its first label, by the value of its second one ("" if there is none);
  // none of a model that has ended.
  std::map<std::string, double> ValuesOf(size_t row, const std::string& model);

  // All of them, in the table's order.
  std::vector<prometheus::MetricFamily> Collect();

 private:
  using Value = std::variant<std::shared_ptr<prometheus::Gauge>,
                             std::shared_ptr<prometheus::Counter>,
                             std::shared_ptr<prometheus::Histogram>>;
  // Of one row, by the values of its labels.
  using Family = std::map<std::vector<std::string>, Value>;

  template <typename Metric, typename Make>
  std::shared_ptr<Metric> GetOrMake(size_t row,
                                    const std::vector<std::string>& labels,
                                    const Make& make);
  // Drops the series of `model` that `which` picks by their row and labels.
  template <typename Which>
  void Drop(const std::string& model, const Which& which)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Drops all series of models that ended at `until` or before.
  void DropEnded(absl::Time until) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Clock& clock_;

  Mutex mu_;
  std::vector<Family> families_ ABSL_GUARDED_BY(mu_);  // in the table's order
  std::set<std::string> models_ ABSL_GUARDED_BY(mu_);  // between start and end
  // Models that ended and whose counters are still there, by when.
  std::map<std::string, absl::Time> ended_ ABSL_GUARDED_BY(mu_);
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_SERIES_H_
