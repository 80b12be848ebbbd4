#include "server/service/checks.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
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

// Of a side of an annotated box: more than any picture has.
constexpr double kMaxPixels = 1e5;

absl::Status CheckNotEmpty(absl::string_view field, absl::string_view text,
                           absl::string_view what) {
  if (!text.empty()) return absl::OkStatus();
  return FieldError(field, absl::StrCat("is empty; must be ", what));
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

bool IsControl(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
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

absl::StatusOr<SaveParams> CheckSave(const v1::SaveModelRequest& request) {
  RETURN_IF_ERROR(CheckModelName("model", request.model()));
  RETURN_IF_ERROR(CheckNotEmpty("folder", request.folder(),
                                "a path below the server's --save_root"));
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  if (request.max_shard_bytes() > kMost) {
    return FieldError("max_shard_bytes",
                      absl::StrCat("must be at most ", kMost, ", is ",
                                   request.max_shard_bytes()));
  }
  return SaveParams{
      .model = request.model(),
      .folder = request.folder(),
      .format = request.format(),
      .max_shard_bytes = static_cast<int64_t>(request.max_shard_bytes())};
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
    const absl::Status no_plan = model::CheckIsNoPlan(request.method());
    if (!no_plan.ok()) return FieldError("method", no_plan.message());
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
  constexpr size_t kMaxNameBytes = 128;
  if (request.text_name().size() > kMaxNameBytes ||
      std::any_of(request.text_name().begin(), request.text_name().end(),
                  IsControl)) {
    return FieldError("text_name",
                      absl::StrCat("must be at most ", kMaxNameBytes,
                                   " bytes without control characters"));
  }
  params.text = std::move(*request.mutable_text());
  params.text_name = std::move(*request.mutable_text_name());
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
