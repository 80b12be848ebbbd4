#include "server/metrics/status_json.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/scheduler/model_history.h"

namespace ounce::server {
namespace {

using Json = nlohmann::ordered_json;

const char* TaskName(Task task) {
  switch (task) {
    case Task::kGenerate:
      return "generate";
    case Task::kDetectObjects:
      return "detect_objects";
  }
  return "";
}

const char* KindName(TensorKind kind) {
  switch (kind) {
    case TensorKind::kLinear:
      return "linear";
    case TensorKind::kConvolution:
      return "convolution";
    case TensorKind::kEmbedding:
      return "embedding";
    case TensorKind::kHead:
      return "head";
    case TensorKind::kVector:
      return "vector";
  }
  return "";
}

// Texts that users and checkpoints chose. (What is no UTF-8 is replaced when it
// is written.)
std::string Cut(std::string_view text, size_t most = StatusBounds::kTextBytes) {
  if (text.size() <= most) return std::string(text);
  size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
    --end;
  }
  return absl::StrCat(std::string(text.substr(0, end)), "…");
}

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

template <typename Value>
Json OrNull(const std::optional<Value>& value) {
  return value.has_value() ? Json(*value) : Json(nullptr);
}

Json QualityJson(const TextQuality& quality) {
  Json json = {{"task", "generate"},
               {"version", quality.version},
               {"perplexity", quality.perplexity},
               {"bits_per_byte", quality.bits_per_byte},
               {"counted_tokens", quality.counted_tokens},
               {"window", quality.window},
               {"stride", quality.stride},
               {"float_perplexity", nullptr},
               {"kl_divergence_nats", nullptr},
               {"top1_agreement", nullptr}};
  if (quality.floats.has_value()) {
    json["float_perplexity"] = quality.floats->float_perplexity;
    json["kl_divergence_nats"] = quality.floats->mean_kl_divergence;
    json["top1_agreement"] = quality.floats->top1_agreement;
  }
  return json;
}

Json QualityJson(const DetectionQuality& quality) {
  Json json = {{"task", "detect_objects"},
               {"version", quality.version},
               {"pictures", quality.pictures},
               {"float_detections", quality.float_detections},
               {"matched", quality.matched},
               {"score_drift", nullptr},
               {"box_drift_pixels", nullptr},
               {"coco_ap", nullptr}};
  if (quality.matched > 0) {
    json["score_drift"] = quality.mean_score_drift;
    json["box_drift_pixels"] = quality.mean_box_drift;
  }
  if (quality.coco.has_value() && quality.coco->ap >= 0) {
    json["coco_ap"] = quality.coco->ap;
  }
  return json;
}

Json QualityJson(const std::optional<TextQuality>& text,
                 const std::optional<DetectionQuality>& detection) {
  return text.has_value()        ? QualityJson(*text)
         : detection.has_value() ? QualityJson(*detection)
                                 : Json(nullptr);
}

Json LayersJson(const std::vector<TensorOutcome>& tensors, size_t most,
                size_t* left_out) {
  std::vector<const TensorOutcome*> layers;  // whose values have changed
  for (const TensorOutcome& tensor : tensors) {
    if (tensor.relative_l2_error.has_value()) layers.push_back(&tensor);
  }
  *left_out = layers.size() - std::min(layers.size(), most);
  if (*left_out > 0) {
    // The worst stay, in their order.
    std::vector<double> errors;
    for (const auto* layer : layers) {
      errors.push_back(*layer->relative_l2_error);
    }
    std::nth_element(errors.begin(),
                     errors.begin() + static_cast<ptrdiff_t>(*left_out),
                     errors.end());
    const double least = errors[*left_out];
    // Of those that are equal to the least, as many as there is room for.
    auto equal = static_cast<ptrdiff_t>(most) -
                 std::count_if(layers.begin(), layers.end(), [&](auto* layer) {
                   return *layer->relative_l2_error > least;
                 });
    std::erase_if(layers, [&](const TensorOutcome* layer) {
      const double error = *layer->relative_l2_error;
      return error < least || (error == least && equal-- <= 0);
    });
  }
  Json json = Json::array();
  for (const TensorOutcome* layer : layers) {
    json.push_back(
        {{"name", Cut(layer->name, StatusBounds::kLayerTextBytes)},
         {"kind", KindName(layer->kind)},
         {"method", Cut(layer->method, StatusBounds::kLayerTextBytes)},
         {"relative_l2_error", *layer->relative_l2_error},
         {"relative_l2_output_error", OrNull(layer->relative_l2_output_error)},
         {"bytes_before", layer->bytes_before},
         {"bytes_after", layer->bytes_after}});
  }
  return json;
}

class Writer {
 public:
  Writer(const ServerStatus& status, const MeasuredStatus& measured)
      : status_(status),
        measured_(measured),
        listed_(std::min(status.models.size(), StatusBounds::kModels)) {}

  Json All() const {
    Json models = Json::array();
    for (size_t i = 0; i < listed_; ++i) {
      models.push_back(ModelJson(status_.models[i]));
    }
    return {
        {"schema", 1},
        {"time", TimeText(status_.time)},
        {"server",
         {{"version", measured_.version},
          {"phase", measured_.phase},
          {"not_ready", measured_.not_ready},
          {"started", TimeText(status_.time - status_.uptime)},
          {"uptime_seconds", absl::ToInt64Seconds(status_.uptime)},
          {"instruction_set", measured_.instruction_set},
          {"threads", status_.threads}}},
        {"memory", MemoryJson()},
        {"models_left_out", status_.models.size() - listed_},
        {"models", std::move(models)},
    };
  }

 private:
  // A time of the catalog's clock.
  std::string CatalogTime(absl::Time time) const {
    return TimeText(status_.time - (status_.clock_time - time));
  }

  Json MemoryJson() const {
    const MemoryBudget::State& memory = status_.memory;
    Json shares;
    for (const auto& [name, bytes] : memory.taken()) shares[name] = bytes;
    return {{"limit_bytes", memory.limit_bytes},
            {"free_bytes", memory.free_bytes()},
            {"bytes", std::move(shares)},
            {"ending_bytes", memory.ending_bytes},
            {"resident_bytes", measured_.resident_bytes}};
  }

  Json ModelJson(const ModelInfo& info) const {
    static const ModelCounts kNone;
    const auto found = measured_.models.find(info.name);
    const ModelCounts& counts =
        found == measured_.models.end() ? kNone : found->second;
    Json json = {{"name", info.name}, {"state", ModelStateName(info.state)}};
    json["stage"] = counts.stage.empty() ? Json(nullptr) : Json(counts.stage);
    if (info.version == 0) return json;  // not loaded yet
    json["tasks"] = Json::array();
    for (const Task task : info.tasks) json["tasks"].push_back(TaskName(task));
    json["architecture"] = info.architecture;
    json["compute"] = info.compute;
    json["parameters"] = info.parameters;
    json["version"] = info.version;
    json["method"] = Cut(info.method);
    json["plan"] = Cut(info.plan);
    json["checkpoint_bytes"] = info.checkpoint_bytes;
    json["stored_bytes"] = info.stored_bytes;
    json["saved_bytes"] = info.checkpoint_bytes - info.stored_bytes;
    json["resident_bytes"] = info.resident_bytes;
    Json elements = Json::object();
    for (const auto& [element, bytes] : info.resident_bytes_by_element) {
      elements[element] = bytes;
    }
    json["resident_bytes_by_element"] = std::move(elements);
    json["queued"] = info.stats.queued;
    json["running"] = info.stats.running;
    json["kv_cache_dtype"] = info.kv_cache_dtype;
    json["kv_cache_used_bytes"] = info.stats.kv_used_bytes;
    json["kv_cache_cached_bytes"] = info.stats.kv_cached_bytes;
    json["kv_cache_capacity_bytes"] = info.stats.kv_capacity_bytes;
    json["prompt_tokens_total"] = counts.prompt_tokens;
    json["generated_tokens_total"] = counts.generated_tokens;
    json["requests_total"] = counts.requests;
    json["quality"] = QualityJson(info.quality, info.detection);
    AddHistory(info, &json);
    return json;
  }

  void AddHistory(const ModelInfo& info, Json* json) const {
    (*json)["way_back"] = nullptr;
    (*json)["versions"] = Json::array();
    (*json)["report"] = nullptr;
    if (info.history == nullptr) return;
    const ModelHistory& history = *info.history;
    const std::vector<VersionRecord>& versions = history.versions;
    if (versions.size() > 1) {
      const VersionRecord& before = versions[versions.size() - 2];
      (*json)["way_back"] = {{"version", before.version},
                             {"plan", Cut(before.plan)}};
    }
    const size_t most = std::max(size_t{2}, StatusBounds::kVersions / listed_);
    for (size_t i = versions.size() - std::min(versions.size(), most);
         i < versions.size(); ++i) {
      const VersionRecord& record = versions[i];
      (*json)["versions"].push_back(
          {{"version", record.version},
           {"since", CatalogTime(record.since)},
           {"method", Cut(record.method)},
           {"plan", Cut(record.plan)},
           {"stored_bytes", record.stored_bytes},
           {"resident_bytes", record.resident_bytes},
           {"seconds", record.seconds},
           {"quality", QualityJson(record.quality, record.detection)}});
    }
    if (history.report != nullptr) (*json)["report"] = ReportJson(history);
  }

  Json ReportJson(const ModelHistory& history) const {
    const QuantizeReport& report = *history.report;
    size_t left_out = 0;
    Json layers = LayersJson(
        report.tensors,
        std::min(StatusBounds::kLayersOfModel, StatusBounds::kLayers / listed_),
        &left_out);
    return {
        {"model", report.model},
        {"outcome", !report.refusal.ok() ? "refused"
                    : history.dry_run    ? "dry_run"
                                         : "serves"},
        {"refusal", report.refusal.ok()
                        ? Json(nullptr)
                        : Json(Cut(std::string(report.refusal.message())))},
        {"version", report.version},
        {"time", CatalogTime(history.reported)},
        {"seconds", report.seconds},
        {"method", Cut(report.method)},
        {"method_before", Cut(report.method_before)},
        {"plan", Cut(report.plan)},
        {"checkpoint_bytes", report.checkpoint_bytes},
        {"stored_bytes_before", report.stored_bytes_before},
        {"stored_bytes_after", report.stored_bytes_after},
        {"resident_bytes_before", report.resident_bytes_before},
        {"resident_bytes_after", report.resident_bytes_after},
        {"quality", QualityJson(report.quality, report.detection)},
        {"layers_left_out", left_out},
        {"layers", std::move(layers)},
    };
  }

  const ServerStatus& status_;
  const MeasuredStatus& measured_;
  const size_t listed_;  // models
};

}  // namespace

const char* ModelStateName(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return "loading";
    case ModelState::kReady:
      return "ready";
    case ModelState::kQuantizing:
      return "quantizing";
    case ModelState::kUnloading:
      return "unloading";
  }
  return "";
}

std::string StatusJson(const ServerStatus& status,
                       const MeasuredStatus& measured) {
  return Writer(status, measured)
      .All()
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace ounce::server
