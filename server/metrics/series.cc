#include "server/metrics/series.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace ounce::server {
namespace {

// How long the counters of a model that is gone wait for a scrape.
constexpr absl::Duration kKeepEnded = absl::Minutes(10);

bool IsOfAModel(const MetricSpec& spec) {
  return spec.end == SeriesEnd::kModel || spec.end == SeriesEnd::kVersion ||
         spec.end == SeriesEnd::kRun;
}

prometheus::MetricType TypeOf(MetricType type) {
  switch (type) {
    case MetricType::kGauge:
      return prometheus::MetricType::Gauge;
    case MetricType::kCounter:
      return prometheus::MetricType::Counter;
    case MetricType::kHistogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

// Sorted by name, as Prometheus' clients do.
std::vector<prometheus::ClientMetric::Label> LabelsOf(
    const MetricSpec& spec, const std::vector<std::string>& values) {
  std::vector<prometheus::ClientMetric::Label> labels;
  for (size_t i = 0; i < values.size(); ++i) {
    labels.push_back({spec.labels[i], values[i]});
  }
  std::sort(labels.begin(), labels.end());
  return labels;
}

// The value of the label `name`.
const std::string& ValueOf(const MetricSpec& spec,
                           const std::vector<std::string>& values,
                           std::string_view name) {
  const auto label = std::find(spec.labels.begin(), spec.labels.end(), name);
  return values.at(static_cast<size_t>(label - spec.labels.begin()));
}

}  // namespace

Series::Series(const Clock& clock)
    : clock_(clock), families_(MetricTable().size()) {}

template <typename Metric, typename Make>
std::shared_ptr<Metric> Series::GetOrMake(
    size_t row, const std::vector<std::string>& labels, const Make& make) {
  const MetricSpec& spec = MetricTable()[row];
  MutexLock lock(&mu_);
  std::vector<std::string> values = labels;
  if (IsOfAModel(spec) && !values[0].empty() && !models_.contains(values[0])) {
    if (spec.type == MetricType::kGauge) return make();
    values[0].clear();
  }
  const auto [it, is_new] =
      families_[row].try_emplace(std::move(values), std::shared_ptr<Metric>());
  auto& metric = std::get<std::shared_ptr<Metric>>(it->second);
  if (is_new) metric = make();
  return metric;
}

std::shared_ptr<prometheus::Gauge> Series::GetGauge(
    size_t row, const std::vector<std::string>& labels) {
  return GetOrMake<prometheus::Gauge>(
      row, labels, [] { return std::make_shared<prometheus::Gauge>(); });
}

std::shared_ptr<prometheus::Counter> Series::GetCounter(
    size_t row, const std::vector<std::string>& labels) {
  return GetOrMake<prometheus::Counter>(
      row, labels, [] { return std::make_shared<prometheus::Counter>(); });
}

std::shared_ptr<prometheus::Histogram> Series::GetHistogram(
    size_t row, const std::vector<std::string>& labels) {
  return GetOrMake<prometheus::Histogram>(row, labels, [row] {
    return std::make_shared<prometheus::Histogram>(MetricTable()[row].buckets);
  });
}

void Series::StartModel(const std::string& model) {
  MutexLock lock(&mu_);
  models_.insert(model);
  ended_.erase(model);
}

void Series::EndModel(const std::string& model) {
  const absl::Time now = clock_.Now();
  MutexLock lock(&mu_);
  if (models_.erase(model) == 0) return;
  Drop(model, [](const MetricSpec& spec, const auto&) {
    return spec.type == MetricType::kGauge;
  });
  ended_[model] = now;
  DropEnded(now - kKeepEnded);
}

void Series::EndOtherVersions(const std::string& model,
                              const std::string& version) {
  MutexLock lock(&mu_);
  Drop(model, [&](const MetricSpec& spec, const auto& values) {
    return spec.end == SeriesEnd::kVersion &&
           ValueOf(spec, values, "version") != version;
  });
}

void Series::EndRun(const std::string& model) {
  MutexLock lock(&mu_);
  Drop(model, [](const MetricSpec& spec, const auto&) {
    return spec.end == SeriesEnd::kRun;
  });
}

void Series::EndScrape() {
  MutexLock lock(&mu_);
  for (size_t row = 0; row < families_.size(); ++row) {
    if (MetricTable()[row].end == SeriesEnd::kScrape) families_[row].clear();
  }
}

std::map<std::string, double> Series::ValuesOf(size_t row,
                                               const std::string& model) {
  MutexLock lock(&mu_);
  std::map<std::string, double> result;
  if (!models_.contains(model)) return result;
  for (auto it = families_[row].lower_bound({model});
       it != families_[row].end() && it->first[0] == model; ++it) {
    std::visit(
        [&](const auto& metric) {
          if constexpr (requires { metric->Value(); }) {
            result[it->first.size() > 1 ? it->first[1] : ""] = metric->Value();
          }
        },
        it->second);
  }
  return result;
}

std::vector<prometheus::MetricFamily> Series::Collect() {
  MutexLock lock(&mu_);
  std::vector<prometheus::MetricFamily> result;
  for (size_t row = 0; row < families_.size(); ++row) {
    if (families_[row].empty()) continue;
    const MetricSpec& spec = MetricTable()[row];
    prometheus::MetricFamily family{
        spec.name, spec.help, TypeOf(spec.type), {}};
    for (const auto& [values, value] : families_[row]) {
      family.metric.push_back(std::visit(
          [](const auto& metric) { return metric->Collect(); }, value));
      family.metric.back().label = LabelsOf(spec, values);
    }
    result.push_back(std::move(family));
  }
  DropEnded(absl::InfiniteFuture());
  return result;
}

template <typename Which>
void Series::Drop(const std::string& model, const Which& which) {
  for (size_t row = 0; row < families_.size(); ++row) {
    const MetricSpec& spec = MetricTable()[row];
    if (!IsOfAModel(spec)) continue;
    std::erase_if(families_[row], [&](const auto& series) {
      return series.first[0] == model && which(spec, series.first);
    });
  }
}

void Series::DropEnded(absl::Time until) {
  for (auto it = ended_.begin(); it != ended_.end();) {
    if (it->second > until) {
      ++it;
      continue;
    }
    Drop(it->first, [](const MetricSpec&, const auto&) { return true; });
    it = ended_.erase(it);
  }
}

}  // namespace ounce::server
