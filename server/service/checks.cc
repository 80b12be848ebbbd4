#include "server/service/checks.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "quant/registry.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

constexpr int64_t kMaxTopK = 1'000'000;
constexpr int kMaxLogprobs = 20;
constexpr float kMaxTemperature = 100;
constexpr float kGreedyBelow = 1e-4f;
constexpr float kMinRepetitionPenalty = 0.01f;
constexpr float kMaxRepetitionPenalty = 100;
constexpr float kDefaultThreshold = 0.9f;
constexpr int64_t kDefaultDetections = 100;
constexpr int64_t kMaxDetections = 1000;

// Of a side of an annotated box: more than any picture has.
constexpr double kMaxPixels = 1e5;

// NaN is in no range.
absl::Status CheckRange(absl::string_view field, float value, float min,
                        float max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return FieldError(
      field, absl::StrCat("must be from ", min, " to ", max, ", is ", value));
}

absl::Status CheckAtMost(absl::string_view field, int64_t value, int64_t max) {
  if (value <= max) return absl::OkStatus();
  return FieldError(field,
                    absl::StrCat("must be at most ", max, ", is ", value));
}

absl::Status CheckNotEmpty(absl::string_view field, absl::string_view text,
                           absl::string_view what) {
  if (!text.empty()) return absl::OkStatus();
  return FieldError(field, absl::StrCat("is empty; must be ", what));
}

absl::StatusOr<SamplingParams> CheckSampling(
    const v1::Sampling& sampling, const model::GenerationDefaults& defaults) {
  RETURN_IF_ERROR(CheckRange("sampling.temperature", sampling.temperature(), 0,
                             kMaxTemperature));
  RETURN_IF_ERROR(CheckAtMost("sampling.top_k", sampling.top_k(), kMaxTopK));
  RETURN_IF_ERROR(CheckRange("sampling.top_p", sampling.top_p(), 0, 1));
  RETURN_IF_ERROR(CheckRange("sampling.min_p", sampling.min_p(), 0, 1));
  if (sampling.repetition_penalty() != 0) {
    RETURN_IF_ERROR(CheckRange("sampling.repetition_penalty",
                               sampling.repetition_penalty(),
                               kMinRepetitionPenalty, kMaxRepetitionPenalty));
  }
  SamplingParams params;
  params.temperature = sampling.has_temperature() ? sampling.temperature()
                                                  : defaults.temperature;
  if (params.temperature < kGreedyBelow) params.temperature = 0;
  params.top_k = sampling.has_top_k() ? sampling.top_k() : defaults.top_k;
  params.top_p = sampling.has_top_p() ? sampling.top_p() : defaults.top_p;
  if (params.top_p == 0) params.top_p = 1;
  params.min_p = sampling.has_min_p() ? sampling.min_p() : defaults.min_p;
  params.repetition_penalty = sampling.has_repetition_penalty()
                                  ? sampling.repetition_penalty()
                                  : defaults.repetition_penalty;
  if (params.repetition_penalty == 0) params.repetition_penalty = 1;
  params.seed = sampling.seed();
  return params;
}

absl::StatusOr<model::MethodPlan> CheckPlan(const std::string& plan,
                                            const model::ShortForm& form) {
  absl::StatusOr<model::MethodPlan> parsed = model::PlanOf(plan, form);
  if (parsed.ok() || plan.empty()) return parsed;
  return FieldError("plan", parsed.status().message());
}

template <class Globs>
absl::Status CheckGlobs(absl::string_view field, const Globs& globs) {
  for (int i = 0; i < globs.size(); ++i) {
    RETURN_IF_ERROR(CheckNotEmpty(absl::StrCat(field, "[", i, "]"), globs[i],
                                  "a pattern of module names"));
  }
  return absl::OkStatus();
}

// Of all texts of a quantization.
constexpr size_t kMaxTextBytes = size_t{4} << 20;

absl::Status CheckQualityLimit(absl::string_view field, bool given,
                               double value, bool has_samples,
                               absl::string_view samples) {
  if (!given) return absl::OkStatus();
  if (!(value >= 0 && std::isfinite(value))) {
    return FieldError(
        field, absl::StrCat("must be a finite number from 0 on, is ", value));
  }
  if (has_samples) return absl::OkStatus();
  return FieldError(field, absl::StrCat("needs samples; give ", samples,
                                        ", or probe for the server's own"));
}

absl::Status CheckSamples(const v1::QuantizeRequest& request) {
  size_t bytes = 0;
  for (int i = 0; i < request.texts_size(); ++i) {
    RETURN_IF_ERROR(CheckNotEmpty(absl::StrCat("texts[", i, "]"),
                                  request.texts(i), "a text"));
    bytes += request.texts(i).size();
  }
  if (bytes > kMaxTextBytes) {
    return FieldError("texts", absl::StrCat("must be at most ", kMaxTextBytes,
                                            " bytes together, are ", bytes));
  }
  if (request.probe() &&
      (!request.texts().empty() || !request.pictures().empty())) {
    return FieldError("probe",
                      "is in place of texts and pictures; leave it or them "
                      "out");
  }
  const bool has_texts = request.probe() || !request.texts().empty();
  RETURN_IF_ERROR(CheckQualityLimit(
      "max_perplexity_increase", request.has_max_perplexity_increase(),
      request.max_perplexity_increase(), has_texts, "texts"));
  RETURN_IF_ERROR(CheckQualityLimit("max_kl", request.has_max_kl(),
                                    request.max_kl(), has_texts, "texts"));
  return CheckQualityLimit(
      "max_box_drift", request.has_max_box_drift(), request.max_box_drift(),
      request.probe() || !request.pictures().empty(), "pictures");
}

std::optional<double> LimitOf(bool given, double value) {
  return given ? std::optional<double>(value) : std::nullopt;
}

}  // namespace

absl::Status CheckModelName(absl::string_view field, absl::string_view name) {
  if (IsModelName(std::string_view(name.data(), name.size()))) {
    return absl::OkStatus();
  }
  constexpr size_t kShownBytes = 64;
  return FieldError(field,
                    absl::StrCat("must be ", kModelNameRule, ", is '",
                                 name.substr(0, kShownBytes),
                                 name.size() > kShownBytes ? "...'" : "'"));
}

absl::StatusOr<GenerateParams> CheckGenerate(
    const v1::GenerateRequest& request,
    const model::GenerationDefaults& defaults, int64_t max_new_tokens_cap) {
  GenerateParams params;
  switch (request.input_case()) {
    case v1::GenerateRequest::kPrompt:
      if (request.prompt().empty()) return FieldError("prompt", "is empty");
      break;
    case v1::GenerateRequest::kPromptTokenIds:
      if (request.prompt_token_ids().ids().empty()) {
        return FieldError("prompt_token_ids.ids", "is empty");
      }
      break;
    case v1::GenerateRequest::INPUT_NOT_SET:
      return FieldError("prompt",
                        "is missing, and so is prompt_token_ids; give one");
  }
  RETURN_IF_ERROR(CheckAtMost("max_new_tokens", request.max_new_tokens(),
                              max_new_tokens_cap));
  ASSIGN_OR_RETURN(params.sampling,
                   CheckSampling(request.sampling(), defaults));
  for (int i = 0; i < request.stop_size(); ++i) {
    if (request.stop(i).empty()) {
      return FieldError(absl::StrCat("stop[", i, "]"), "is empty");
    }
  }
  params.stop.assign(request.stop().begin(), request.stop().end());
  RETURN_IF_ERROR(CheckAtMost("logprobs", request.logprobs(), kMaxLogprobs));
  params.num_logprobs = static_cast<int>(request.logprobs());
  return params;
}

absl::StatusOr<int64_t> CheckNewTokens(
    const v1::GenerateRequest& request,
    const model::GenerationDefaults& defaults, int64_t max_new_tokens_cap,
    int64_t prompt_tokens) {
  if (request.max_new_tokens() > 0) return request.max_new_tokens();
  int64_t tokens = kDefaultNewTokens;
  if (!request.has_max_new_tokens()) {
    if (defaults.max_new_tokens.has_value()) {
      tokens = *defaults.max_new_tokens;
    } else if (defaults.max_length.has_value()) {
      tokens = *defaults.max_length - prompt_tokens;
    }
  }
  if (tokens < 1) {
    return FieldError(
        "max_new_tokens",
        absl::StrCat("is missing, and the model's max_length of ",
                     *defaults.max_length, " leaves none after a prompt of ",
                     prompt_tokens, " tokens; say how many"));
  }
  return std::min(tokens, max_new_tokens_cap);
}

absl::StatusOr<DetectParams> CheckDetect(
    const v1::DetectObjectsRequest& request) {
  DetectParams params;
  params.threshold =
      request.has_threshold() ? request.threshold() : kDefaultThreshold;
  // NaN is in no range.
  if (!(params.threshold >= 0 && params.threshold < 1)) {
    return FieldError("threshold",
                      absl::StrCat("must be at least 0 and less than 1, is ",
                                   params.threshold));
  }
  RETURN_IF_ERROR(
      CheckAtMost("max_detections", request.max_detections(), kMaxDetections));
  params.max_detections = request.max_detections() > 0
                              ? request.max_detections()
                              : kDefaultDetections;
  return params;
}

absl::Status CheckTokenIds(absl::string_view field,
                           absl::Span<const int32_t> ids,
                           int64_t vocabulary_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary_size) {
      return FieldError(absl::StrCat(field, "[", i, "]"),
                        absl::StrCat("must be from 0 to ", vocabulary_size - 1,
                                     ", is ", ids[i]));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPromptLength(absl::string_view field, int64_t num_tokens,
                               int64_t max_positions) {
  if (num_tokens < max_positions) return absl::OkStatus();
  return FieldError(
      field, absl::StrCat("must be at most ", max_positions - 1, " tokens, is ",
                          num_tokens, " (prompt and new tokens share ",
                          max_positions, " positions)"));
}

absl::StatusOr<LoadParams> CheckLoad(const v1::LoadModelRequest& request) {
  RETURN_IF_ERROR(CheckModelName("name", request.name()));
  RETURN_IF_ERROR(CheckNotEmpty("path", request.path(),
                                "a folder of the server, or org/name"));
  if (request.path().find('\0') != std::string::npos) {
    return FieldError("path", "must be a path, contains a zero byte");
  }
  ASSIGN_OR_RETURN(
      model::MethodPlan plan,
      CheckPlan(request.plan(), {.method = request.method(),
                                 .convolutions = request.convolutions()}));
  return LoadParams{
      .name = request.name(), .path = request.path(), .plan = std::move(plan)};
}

absl::StatusOr<QuantizeParams> CheckQuantize(v1::QuantizeRequest& request) {
  RETURN_IF_ERROR(CheckModelName("model", request.model()));
  if (request.plan().empty() && request.method().empty()) {
    return FieldError("method", "is empty, and so is plan; give one");
  }
  RETURN_IF_ERROR(CheckGlobs("include", request.include()));
  RETURN_IF_ERROR(CheckGlobs("exclude", request.exclude()));
  if (!request.as().empty()) {
    RETURN_IF_ERROR(CheckModelName("as", request.as()));
  }
  ASSIGN_OR_RETURN(
      model::MethodPlan plan,
      CheckPlan(
          request.plan(),
          {.method = request.method(),
           .include = {request.include().begin(), request.include().end()},
           .exclude = {request.exclude().begin(), request.exclude().end()},
           .convolutions = request.convolutions()}));
  RETURN_IF_ERROR(CheckSamples(request));
  return QuantizeParams{
      .model = request.model(),
      .plan = std::move(plan),
      .as = request.as(),
      .dry_run = request.dry_run(),
      .texts = {std::make_move_iterator(request.mutable_texts()->begin()),
                std::make_move_iterator(request.mutable_texts()->end())},
      .limits = {.max_perplexity_increase =
                     LimitOf(request.has_max_perplexity_increase(),
                             request.max_perplexity_increase()),
                 .max_kl = LimitOf(request.has_max_kl(), request.max_kl()),
                 .max_box_drift = LimitOf(request.has_max_box_drift(),
                                          request.max_box_drift())},
  };
}

absl::StatusOr<InspectParams> CheckInspect(const v1::InspectRequest& request) {
  InspectParams params;
  if (request.path().empty()) {
    RETURN_IF_ERROR(CheckModelName("model", request.model()));
  } else if (!request.model().empty()) {
    return FieldError("path", "is given beside model; give one of the two");
  }
  params.model = request.model();
  params.path = request.path();
  params.tensor = request.tensor();
  if (!request.plan().empty()) {
    ASSIGN_OR_RETURN(params.plan, CheckPlan(request.plan(), {}));
  }
  if (!request.method().empty()) {
    if (request.tensor().empty()) {
      return FieldError("method", "is for a tensor; give one");
    }
    absl::StatusOr<quant::MethodSpec> method =
        quant::ParseMethodSpec(request.method());
    if (!method.ok()) return FieldError("method", method.status().message());
    params.method = *std::move(method);
  }
  return params;
}

absl::StatusOr<EvaluateParams> CheckEvaluate(v1::EvaluateRequest& request,
                                             int64_t max_positions) {
  RETURN_IF_ERROR(CheckNotEmpty("text", request.text(), "a text"));
  if (!request.pictures().empty() || !request.objects().empty()) {
    return FieldError(request.pictures().empty() ? "objects" : "pictures",
                      "is for a model that detects objects; leave it out");
  }
  EvaluateParams params;
  params.window =
      request.window() > 0 ? request.window() : DefaultWindow(max_positions);
  if (params.window < 2 || params.window > max_positions) {
    return FieldError(
        "window", absl::StrCat("must be from 2 to ", max_positions,
                               ", the model's positions, is ", params.window));
  }
  params.stride =
      request.stride() > 0 ? request.stride() : DefaultStride(params.window);
  if (params.stride > params.window) {
    return FieldError(
        "stride", absl::StrCat("must be at most the window's ", params.window,
                               ", is ", params.stride));
  }
  params.text = std::move(*request.mutable_text());
  params.compare_with_floats = request.compare_with_floats();
  return params;
}

absl::StatusOr<EvaluateDetectionParams> CheckEvaluateDetection(
    const v1::EvaluateRequest& request) {
  if (request.pictures().empty()) {
    return FieldError("pictures",
                      "is empty; must be pictures to detect objects in");
  }
  if (request.window() > 0 || request.stride() > 0) {
    return FieldError(request.window() > 0 ? "window" : "stride",
                      "is for a model that generates text; leave it out");
  }
  EvaluateDetectionParams params;
  params.num_pictures = request.pictures_size();
  params.compare_with_floats = request.compare_with_floats();
  if (request.objects().empty() && !request.compare_with_floats()) {
    return FieldError("objects",
                      "is empty, and compare_with_floats is false, so there is "
                      "nothing to measure by; give one");
  }
  params.objects.reserve(request.objects_size());
  for (int i = 0; i < request.objects_size(); ++i) {
    const v1::AnnotatedObject& object = request.objects(i);
    const std::string field = absl::StrCat("objects[", i, "]");
    if (object.picture() >= static_cast<uint32_t>(request.pictures_size())) {
      return FieldError(
          absl::StrCat(field, ".picture"),
          absl::StrCat("must be below the number of pictures, ",
                       request.pictures_size(), ", is ", object.picture()));
    }
    RETURN_IF_ERROR(CheckNotEmpty(absl::StrCat(field, ".label"), object.label(),
                                  "a label"));
    for (const auto& [name, value, min] :
         {std::tuple("x", object.x(), -kMaxPixels),
          std::tuple("y", object.y(), -kMaxPixels),
          std::tuple("width", object.width(), 0.0),
          std::tuple("height", object.height(), 0.0),
          std::tuple("area", object.area(), 0.0)}) {
      const double max = name == std::string_view("area")
                             ? kMaxPixels * kMaxPixels
                             : kMaxPixels;
      if (!(value >= min && value <= max)) {
        return FieldError(
            absl::StrCat(field, ".", name),
            absl::StrCat("must be from ", min, " to ", max, ", is ", value));
      }
    }
    params.objects.push_back({.picture = object.picture(),
                              .label = object.label(),
                              .x = object.x(),
                              .y = object.y(),
                              .width = object.width(),
                              .height = object.height(),
                              .area = object.area() > 0
                                          ? object.area()
                                          : object.width() * object.height(),
                              .crowd = object.crowd()});
  }
  return params;
}

}  // namespace ounce::server
