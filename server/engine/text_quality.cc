#include "server/engine/text_quality.h"

#include <numbers>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/perplexity.h"
#include "server/engine/background_thread.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

absl::Status CheckTokens(absl::string_view name, absl::Span<const int32_t> ids,
                         int64_t vocab_size) {
  for (const int32_t id : ids) {
    if (id >= vocab_size) {
      return FieldError(name,
                        absl::StrCat("has token ", id,
                                     ", and the model predicts tokens below ",
                                     vocab_size, " only"));
    }
  }
  if (ids.size() < 2) {
    return FieldError(
        name,
        absl::StrCat(
            "must have at least 2 tokens, of which the first is not predicted, "
            "has ",
            ids.size()));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t TextSamples::counted_tokens() const {
  // Of each text all but the first.
  return static_cast<int64_t>(tokens.ids.size() - tokens.lengths.size());
}

absl::StatusOr<TextSamples> TokenizeSamples(
    const model::Tokenizer& tokenizer, absl::Span<const std::string> texts,
    bool several, absl::string_view field, int64_t vocab_size, int64_t window,
    int64_t stride, const std::function<absl::Status()>& proceed) {
  TextSamples samples;
  samples.window = window;
  samples.stride = stride;
  // In the background, for it may take a second.
  RETURN_IF_ERROR(RunInBackground(
      [&](Waiter& waiter) -> absl::Status {
        ASSIGN_OR_RETURN(const std::vector<int32_t> around,
                         tokenizer.Encode(""));
        for (size_t i = 0; i < texts.size(); ++i) {
          RETURN_IF_ERROR(waiter.CheckProceed());
          ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                           tokenizer.Encode(texts[i]));
          RETURN_IF_ERROR(CheckTokens(
              several ? absl::StrCat(field, "[", i, "]") : std::string(field),
              ids, vocab_size));
          if (!around.empty() && around.front() == ids.front()) {
            samples.bos.clear();
            model::LossyUtf8().Push(
                tokenizer.Decode({&ids.front(), 1}, /*skip_special=*/false),
                samples.bos);
          }
          samples.bytes += static_cast<int64_t>(texts[i].size());
          samples.text_tokens +=
              static_cast<int64_t>(ids.size() - around.size());
          samples.tokens.lengths.push_back(static_cast<int64_t>(ids.size()));
          samples.tokens.ids.insert(samples.tokens.ids.end(), ids.begin(),
                                    ids.end());
        }
        return absl::OkStatus();
      },
      proceed, {.patience = absl::InfiniteDuration()}));
  return samples;
}

absl::StatusOr<TextQuality> MeasureSamples(
    const EngineContext& context, const model::CausalLm& model,
    const std::string& method, const model::Tokenizer& tokenizer,
    const TextSamples& samples, FloatPieces* floats,
    const std::function<absl::Status(const EvaluateUpdate&)>& progress) {
  ASSIGN_OR_RETURN(
      const TextScore score,
      EvaluateTokens(context, model, method, samples.tokens, samples.window,
                     samples.stride, floats, progress));
  const model::Perplexity& perplexity = score.perplexity;
  const int32_t worst = samples.tokens.ids[perplexity.worst_token];
  TextQuality quality;
  quality.method = method;
  quality.bos = samples.bos;
  quality.window = samples.window;
  quality.stride = samples.stride;
  quality.tokens = static_cast<int64_t>(samples.tokens.ids.size());
  quality.counted_tokens = perplexity.counted_tokens;
  quality.mean_negative_log_likelihood = perplexity.mean();
  quality.perplexity = perplexity.value();
  quality.bits_per_byte = perplexity.mean() / std::numbers::ln2 *
                          static_cast<double>(samples.text_tokens) /
                          static_cast<double>(samples.bytes);
  quality.worst_token = {
      .index = perplexity.worst_token,
      .id = worst,
      .text = tokenizer.Decode({&worst, 1}, /*skip_special=*/false),
      .negative_log_likelihood = perplexity.worst};
  if (floats != nullptr) {
    const auto counted = static_cast<double>(perplexity.counted_tokens);
    quality.floats = TextQuality::Comparison{
        .mean_kl_divergence = score.sum_kl / counted,
        .top1_agreement = static_cast<double>(score.num_same_top) / counted,
        .float_perplexity = score.float_perplexity.value()};
  }
  return quality;
}

}  // namespace ounce::server
