#include "server/metrics/families.h"

namespace ounce::server {
namespace {

// OpenTelemetry's buckets for generative servers, extended upward for CPUs and
// downward for small models.
std::vector<double> TimeToFirstTokenBuckets() {
  return {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,
          .75,  1,    2.5, 5,   7.5, 10,  20,  40, 60};
}
std::vector<double> TimePerOutputTokenBuckets() {
  return {.001, .0025, .005, .01, .025, .05, .075, .1, .15,
          .2,   .3,    .4,   .5,  .75,  1,   2.5,  5,  10};
}
std::vector<double> DurationBuckets() {
  return {.01,  .02,   .04,   .08,   .16,   .32,    .64,    1.28,  2.56,
          5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36};
}

prometheus::Labels LabelsOf(MetricId id,
                            const std::vector<std::string>& values) {
  const std::vector<const char*>& names = MetricTable()[id].labels;
  prometheus::Labels labels;
  for (size_t i = 0; i < names.size(); ++i) labels[names[i]] = values.at(i);
  return labels;
}

}  // namespace

Families::Families() {
  for (const MetricSpec& spec : MetricTable()) {
    Any family;
    switch (spec.type) {
      case MetricSpec::kGauge:
        family.gauge =
            &prometheus::BuildGauge().Name(spec.name).Help(spec.help).Register(
                registry_);
        break;
      case MetricSpec::kCounter:
        family.counter = &prometheus::BuildCounter()
                              .Name(spec.name)
                              .Help(spec.help)
                              .Register(registry_);
        break;
      case MetricSpec::kHistogram:
        family.histogram = &prometheus::BuildHistogram()
                                .Name(spec.name)
                                .Help(spec.help)
                                .Register(registry_);
        break;
    }
    families_.push_back(family);
  }
}

prometheus::Gauge& Families::gauge(MetricId id,
                                   const std::vector<std::string>& values) {
  return families_[id].gauge->Add(LabelsOf(id, values));
}

prometheus::Counter& Families::counter(MetricId id,
                                       const std::vector<std::string>& values) {
  return families_[id].counter->Add(LabelsOf(id, values));
}

prometheus::Histogram& Families::histogram(
    MetricId id, const std::vector<std::string>& values) {
  return families_[id].histogram->Add(LabelsOf(id, values),
                                      MetricTable()[id].buckets);
}

void Families::Remove(MetricId id, prometheus::Gauge* gauge) {
  families_[id].gauge->Remove(gauge);
}

const std::vector<MetricSpec>& MetricTable() {
  static const auto* const kTable = new std::vector<MetricSpec>{
      {"ounce_build_info",
       MetricSpec::kGauge,
       "Always 1; what this server was built as and computes with",
       {"version", "isa", "compiler"}},
      {"ounce_process_resident_bytes",
       MetricSpec::kGauge,
       "Resident memory of the process, now",
       {}},
      {"ounce_process_peak_resident_bytes",
       MetricSpec::kGauge,
       "Resident memory of the process, at its highest since the start",
       {}},
      {"ounce_model_state",
       MetricSpec::kGauge,
       "1 for the state the model is in, 0 for the others",
       {"model", "state"}},
      {"ounce_model_weight_bytes",
       MetricSpec::kGauge,
       "Bytes in memory for the serving version's weights, packing included",
       {"model", "version", "method", "dtype"}},
      {"ounce_model_stored_bytes",
       MetricSpec::kGauge,
       "Bytes of the serving version's parameters and buffers, by Hugging "
       "Face's convention",
       {"model", "version", "method"}},
      {"ounce_model_checkpoint_bytes",
       MetricSpec::kGauge,
       "Bytes of the weights in the checkpoint, in its own dtypes",
       {"model"}},
      {"ounce_model_saved_bytes",
       MetricSpec::kGauge,
       "Checkpoint bytes less stored bytes; negative if the model grew",
       {"model"}},
      {"ounce_model_saved_ratio",
       MetricSpec::kGauge,
       "Saved bytes as a share of the checkpoint's; 0.35 is 35 % saved",
       {"model"}},
      {"ounce_kv_cache_capacity_bytes",
       MetricSpec::kGauge,
       "Most bytes that the model's keys and values may take",
       {"model"}},
      {"ounce_kv_cache_used_bytes",
       MetricSpec::kGauge,
       "Bytes of keys and values that running requests hold",
       {"model"}},
      {"ounce_requests_queued",
       MetricSpec::kGauge,
       "Requests that wait for their first step",
       {"model"}},
      {"ounce_requests_running",
       MetricSpec::kGauge,
       "Requests that take part in steps",
       {"model"}},
      {"ounce_requests_total",
       MetricSpec::kCounter,
       "Generate requests by how they ended; model is empty where the request "
       "named none that is served",
       {"model", "outcome"}},
      {"ounce_prompt_tokens_total",
       MetricSpec::kCounter,
       "Prompt tokens computed",
       {"model"}},
      {"ounce_generated_tokens_total",
       MetricSpec::kCounter,
       "Tokens generated",
       {"model"}},
      {"ounce_time_to_first_token_seconds",
       MetricSpec::kHistogram,
       "From arrival until the first new token",
       {"model"},
       TimeToFirstTokenBuckets()},
      {"ounce_time_per_output_token_seconds",
       MetricSpec::kHistogram,
       "Mean time of a request's tokens after the first; finished requests",
       {"model"},
       TimePerOutputTokenBuckets()},
      {"ounce_request_duration_seconds",
       MetricSpec::kHistogram,
       "From arrival until the end; finished requests",
       {"model"},
       DurationBuckets()},
      {"ounce_queue_seconds",
       MetricSpec::kHistogram,
       "From arrival until the first step; finished requests",
       {"model"},
       TimeToFirstTokenBuckets()},
      {"ounce_quantizations_total",
       MetricSpec::kCounter,
       "Quantization runs by how they ended (done, cancelled, unavailable, "
       "error), dry runs included",
       {"model", "method", "outcome"}},
      {"ounce_quantization_seconds",
       MetricSpec::kHistogram,
       "Duration of quantizations that were done",
       {"model", "method"},
       DurationBuckets()},
      {"ounce_quantization_stage",
       MetricSpec::kGauge,
       "1 for the stage that the running quantization is in; absent without "
       "one",
       {"model", "stage"}},
      {"ounce_detect_requests_total",
       MetricSpec::kCounter,
       "DetectObjects requests by how they ended; model is empty where the "
       "request named none that is served",
       {"model", "outcome"}},
      {"ounce_detect_request_duration_seconds",
       MetricSpec::kHistogram,
       "From arrival until the answer; finished requests",
       {"model"},
       DurationBuckets()},
      {"ounce_detect_queue_seconds",
       MetricSpec::kHistogram,
       "Waiting for a thread that reads the picture and for the model; "
       "finished "
       "requests",
       {"model"},
       TimeToFirstTokenBuckets()},
      {"ounce_detect_decode_seconds",
       MetricSpec::kHistogram,
       "Decoding, turning and resizing the picture; finished requests",
       {"model"},
       TimeToFirstTokenBuckets()},
      {"ounce_detect_model_seconds",
       MetricSpec::kHistogram,
       "In the model, a batch",
       {"model"},
       TimeToFirstTokenBuckets()},
      {"ounce_detect_batch_pictures",
       MetricSpec::kHistogram,
       "Pictures of a batch",
       {"model"},
       {1, 2, 3, 4, 6, 8, 12, 16, 32, 64}},
      {"ounce_pictures_in_flight",
       MetricSpec::kGauge,
       "Pictures that are read, wait or are in a model, all models together",
       {}},
      {"ounce_picture_memory_used_bytes",
       MetricSpec::kGauge,
       "Bytes set aside for these",
       {}},
  };
  static_assert(kNumMetrics == 31);
  return *kTable;
}

}  // namespace ounce::server
