#include "server/frontend/request_checks.h"

#include <algorithm>
#include <string>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
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

// NaN is in no range.
absl::Status CheckRange(absl::string_view field, float value, float min,
                        float max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return FieldError(
      field, absl::StrCat("must be from ", min, " to ", max, ", is ", value));
}

// Not below 0 either.
absl::Status CheckAtMost(absl::string_view field, int64_t value, int64_t max) {
  if (value < 0) {
    return FieldError(field, absl::StrCat("must be at least 0, is ", value));
  }
  if (value <= max) return absl::OkStatus();
  return FieldError(field,
                    absl::StrCat("must be at most ", max, ", is ", value));
}

absl::StatusOr<SamplingParams> CheckSampling(
    const SamplingRequest& sampling,
    const model::GenerationDefaults& defaults) {
  RETURN_IF_ERROR(CheckRange("sampling.temperature",
                             sampling.temperature.value_or(0), 0,
                             kMaxTemperature));
  RETURN_IF_ERROR(
      CheckAtMost("sampling.top_k", sampling.top_k.value_or(0), kMaxTopK));
  RETURN_IF_ERROR(
      CheckRange("sampling.top_p", sampling.top_p.value_or(0), 0, 1));
  RETURN_IF_ERROR(
      CheckRange("sampling.min_p", sampling.min_p.value_or(0), 0, 1));
  if (sampling.repetition_penalty.value_or(0) != 0) {
    RETURN_IF_ERROR(CheckRange("sampling.repetition_penalty",
                               *sampling.repetition_penalty,
                               kMinRepetitionPenalty, kMaxRepetitionPenalty));
  }
  SamplingParams params;
  params.temperature = sampling.temperature.value_or(defaults.temperature);
  if (params.temperature < kGreedyBelow) params.temperature = 0;
  params.top_k = sampling.top_k.value_or(defaults.top_k);
  params.top_p = sampling.top_p.value_or(defaults.top_p);
  if (params.top_p == 0) params.top_p = 1;
  params.min_p = sampling.min_p.value_or(defaults.min_p);
  params.repetition_penalty =
      sampling.repetition_penalty.value_or(defaults.repetition_penalty);
  if (params.repetition_penalty == 0) params.repetition_penalty = 1;
  params.seed = sampling.seed.value_or(0);
  return params;
}

absl::Status CheckPrompt(const Prompt& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    return text->empty() ? FieldError("prompt", "is empty") : absl::OkStatus();
  }
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) {
    return ids->empty() ? FieldError("prompt_token_ids.ids", "is empty")
                        : absl::OkStatus();
  }
  return FieldError("prompt",
                    "is missing, and so is prompt_token_ids; give one");
}

}  // namespace

absl::StatusOr<GenerateParams> CheckGenerate(
    const GenerateRequest& request, const model::GenerationDefaults& defaults,
    int64_t max_new_tokens_cap) {
  RETURN_IF_ERROR(CheckPrompt(request.prompt));
  GenerateParams params;
  RETURN_IF_ERROR(CheckAtMost("max_new_tokens",
                              request.max_new_tokens.value_or(0),
                              max_new_tokens_cap));
  ASSIGN_OR_RETURN(params.sampling, CheckSampling(request.sampling, defaults));
  for (size_t i = 0; i < request.stop.size(); ++i) {
    if (request.stop[i].empty()) {
      return FieldError(absl::StrCat("stop[", i, "]"), "is empty");
    }
  }
  params.stop = request.stop;
  RETURN_IF_ERROR(CheckAtMost("logprobs", request.logprobs, kMaxLogprobs));
  params.num_logprobs = static_cast<int>(request.logprobs);
  return params;
}

absl::StatusOr<int64_t> CheckNewTokens(
    const GenerateRequest& request, const model::GenerationDefaults& defaults,
    int64_t max_new_tokens_cap, int64_t prompt_tokens) {
  if (request.max_new_tokens.value_or(0) > 0) return *request.max_new_tokens;
  int64_t tokens = kDefaultNewTokens;
  if (!request.max_new_tokens.has_value()) {
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

absl::StatusOr<DetectParams> CheckDetect(const DetectRequest& request) {
  DetectParams params;
  params.threshold = request.threshold.value_or(kDefaultThreshold);
  // NaN is in no range.
  if (!(params.threshold >= 0 && params.threshold < 1)) {
    return FieldError("threshold",
                      absl::StrCat("must be at least 0 and less than 1, is ",
                                   params.threshold));
  }
  RETURN_IF_ERROR(
      CheckAtMost("max_detections", request.max_detections, kMaxDetections));
  params.max_detections =
      request.max_detections > 0 ? request.max_detections : kDefaultDetections;
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
                               int64_t max_tokens, int64_t max_positions) {
  if (num_tokens > max_tokens && max_tokens < max_positions) {
    return FieldError(
        field, absl::StrCat("must be at most ", max_tokens, " tokens, is ",
                            num_tokens, "; the server takes no more"));
  }
  if (num_tokens < max_positions) return absl::OkStatus();
  return FieldError(
      field, absl::StrCat("must be at most ", max_positions - 1, " tokens, is ",
                          num_tokens, " (prompt and new tokens share ",
                          max_positions, " positions)"));
}

}  // namespace ounce::server
