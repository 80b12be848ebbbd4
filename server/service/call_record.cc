#include "server/service/call_record.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/guard.h"
#include "server/frontend/generation.h"
#include "server/scheduler/detect_request.h"

namespace ounce::server {
namespace {

constexpr size_t kMaxPhases = 64;  // a stream may have any number of requests

const char* FinishName(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

// 0.9, not 0.899999976.
double Rounded(float value) {
  return std::round(static_cast<double>(value) * 1e6) / 1e6;
}

std::vector<Attribute> AttributesOf(const absl::Status& status,
                                    const GenerateOutcome& outcome) {
  const GenerateResult& result = outcome.result;
  const SamplingParams& sampling = outcome.sampling;
  std::vector<Attribute> attributes = {
      {"gen_ai.request.max_tokens", outcome.max_new_tokens},
      {"gen_ai.request.temperature", Rounded(sampling.temperature)},
      {"gen_ai.usage.input_tokens", result.prompt_tokens},
      {"gen_ai.usage.cache_read.input_tokens", result.cached_tokens},
      {"gen_ai.usage.output_tokens", result.new_tokens}};
  if (sampling.temperature > 0) {
    attributes.push_back({"gen_ai.request.top_p", Rounded(sampling.top_p)});
    if (sampling.top_k > 0) {
      attributes.push_back(
          {"gen_ai.request.top_k", static_cast<double>(sampling.top_k)});
    }
  }
  if (!result.method.empty()) {
    attributes.push_back({"ounce.model.method", result.method});
  }
  if (status.ok()) {
    attributes.push_back({"gen_ai.response.finish_reasons",
                          std::vector<std::string>{FinishName(result.reason)}});
  }
  return attributes;
}

}  // namespace

void CallRecord::AddResult(const absl::Status& status,
                           const GenerateOutcome& outcome) {
  const GenerateResult& result = outcome.result;
  if (result.prompt_tokens == 0) return;
  std::optional<absl::Time> arrival;
  Add([&](CallFacts& facts) {
    if (result.model_version > 0) facts.version = result.model_version;
    facts.queued = result.queued;
    if (result.new_tokens > 0) facts.first_token = result.time_to_first_token;
    facts.tokens_in = result.prompt_tokens;
    facts.tokens_cached = result.cached_tokens;
    facts.tokens_out = result.new_tokens;
    arrival = facts.arrival;
  });
  if (!traced() || !arrival.has_value()) return;
  (void)Guarded([&] {
    AddAttributes(AttributesOf(status, outcome));
    AddPhase({"queue", *arrival, *arrival + result.queued});
    if (result.total > result.queued) {
      AddPhase({"prefill", *arrival + result.queued,
                *arrival + result.time_to_first_token});
    }
    if (result.new_tokens > 0) {
      AddPhase({"decode", *arrival + result.time_to_first_token,
                *arrival + result.total});
    }
    return absl::OkStatus();
  });
}

void CallRecord::AddResult(const absl::Status& /*status*/,
                           const DetectResult& result) {
  if (result.model_version == 0) return;
  std::optional<absl::Time> arrival;
  Add([&](CallFacts& facts) {
    facts.version = result.model_version;
    facts.queued = result.queued;
    arrival = facts.arrival;
  });
  if (!traced() || !arrival.has_value()) return;
  (void)Guarded([&] {
    AddAttributes({{"ounce.model.method", result.method},
                   {"ounce.picture.width", result.image_width},
                   {"ounce.picture.height", result.image_height}});
    const absl::Time read = *arrival + result.read;
    const absl::Time end = *arrival + result.total;
    AddPhase({"decode", read - result.decode, read});
    const absl::Time began = *arrival + result.began;
    AddPhase({"queue", read, began});
    AddPhase(
        {"model",
         began,
         end,
         {{"ounce.model.seconds", absl::ToDoubleSeconds(result.in_model)}}});
    return absl::OkStatus();
  });
}

void CallRecord::AddPhase(Phase phase) {
  if (!traced()) return;
  MutexLock lock(&mu_);
  if (phases_.size() < kMaxPhases) phases_.push_back(std::move(phase));
}

void CallRecord::AddAttributes(const std::vector<Attribute>& attributes) {
  if (!traced()) return;
  MutexLock lock(&mu_);
  for (const Attribute& attribute : attributes) {
    const auto same = std::find_if(
        attributes_.begin(), attributes_.end(), [&](const Attribute& other) {
          return std::string_view(other.key) == attribute.key;
        });
    if (same == attributes_.end()) {
      attributes_.push_back(attribute);
    } else {
      same->value = attribute.value;
    }
  }
}

std::vector<Phase> CallRecord::TakePhases() {
  MutexLock lock(&mu_);
  return std::exchange(phases_, {});
}

std::vector<Attribute> CallRecord::TakeAttributes() {
  MutexLock lock(&mu_);
  return std::exchange(attributes_, {});
}

void PhaseNotes::Begin(const char* name) {
  if (!record_.traced()) return;
  const bool same =
      name != nullptr && name_ != nullptr && std::string_view(name) == name_;
  if (same) return;
  const absl::Time now = clock_.Now();
  if (name_ != nullptr) {
    (void)Guarded([&] {
      record_.AddPhase({name_, start_, now});
      return absl::OkStatus();
    });
  }
  name_ = name;
  start_ = now;
}

}  // namespace ounce::server
