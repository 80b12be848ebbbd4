#include "server/metrics/figures.h"

namespace ounce::server {

const std::vector<MetricSpec>& MetricTable() {
  // OpenTelemetry's buckets for generative servers, extended upward for CPUs
  // and downward for small models.
  const std::vector<double> kLatencyBuckets = {
      .001, .005, .01, .02, .04, .06, .08, .1, .25, .5,
      .75,  1,    2.5, 5,   7.5, 10,  20,  40, 60};
  const std::vector<double> kTokenBuckets = {.001, .0025, .005, .01, .025, .05,
                                             .075, .1,    .15,  .2,  .3,   .4,
                                             .5,   .75,   1,    2.5, 5,    10};
  const std::vector<double> kDurationBuckets = {
      .01,  .02,   .04,   .08,   .16,   .32,    .64,    1.28,  2.56,
      5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36};
  const std::vector<double> kStepTokenBuckets = {
      1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
  const std::vector<double> kPictureBuckets = {1, 2,  3,  4,  6,
                                               8, 12, 16, 32, 64};
  static const auto* const kTable = new std::vector<MetricSpec>{
#define LABELS(...) \
  { __VA_ARGS__ }
#define GAUGE(id, name, unit, labels, end, set_by, help) \
  {name, MetricType::kGauge, unit, labels, SeriesEnd::end, set_by, {}, help},
#define COUNTER(id, name, unit, labels, end, set_by, help) \
  {name, MetricType::kCounter, unit, labels, SeriesEnd::end, set_by, {}, help},
#define HISTOGRAM(id, name, unit, labels, end, set_by, buckets, help) \
  {                                                                   \
      name,           MetricType::kHistogram,                         \
      unit,           labels,                                         \
      SeriesEnd::end, set_by,                                         \
      buckets,        help},
#include "server/metrics/metrics.def"
  };
  return *kTable;
}

}  // namespace ounce::server
