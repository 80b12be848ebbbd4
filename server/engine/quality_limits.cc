#include "server/engine/quality_limits.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

absl::Status CheckFieldIsFor(const ModelInfo& info, bool given, Task task,
                             const char* field) {
  if (!given) return absl::OkStatus();
  const absl::Status status = CheckTask(info, task);
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(field, ": ", status.message()));
}

}  // namespace

absl::Status CheckSamplesAreFor(const ModelInfo& info,
                                const QuantizeParams& params) {
  const QualityLimits& limits = params.limits;
  struct Field {
    bool given;
    Task task;
    const char* name;
  };
  for (const Field& field :
       {Field{!params.texts.empty(), Task::kGenerate, "texts"},
        Field{!params.pictures.empty(), Task::kDetectObjects, "pictures"},
        Field{limits.max_perplexity_increase.has_value(), Task::kGenerate,
              "max_perplexity_increase"},
        Field{limits.max_kl.has_value(), Task::kGenerate, "max_kl"},
        Field{limits.max_box_drift.has_value(), Task::kDetectObjects,
              "max_box_drift"}}) {
    RETURN_IF_ERROR(CheckFieldIsFor(info, field.given, field.task, field.name));
  }
  return absl::OkStatus();
}

absl::Status CheckQuality(const QualityLimits& limits,
                          const std::optional<TextQuality>& text,
                          const std::optional<DetectionQuality>& detection) {
  std::vector<std::string> over;
  if (limits.of_text()) {
    OUNCE_CHECK(text.has_value() && text->floats.has_value(),
                "limits of texts have samples");
    const double increase =
        text->perplexity / text->floats->float_perplexity - 1;
    const double kl = text->floats->mean_kl_divergence;
    // Written so that what is no number is over.
    if (limits.max_perplexity_increase.has_value() &&
        !(increase <= *limits.max_perplexity_increase)) {
      over.push_back(absl::StrFormat(
          "perplexity would be %.6g, %.4g%% above the floats' %.6g, and "
          "max_perplexity_increase is %g (%g%%)",
          text->perplexity, 100 * increase, text->floats->float_perplexity,
          *limits.max_perplexity_increase,
          100 * *limits.max_perplexity_increase));
    }
    if (limits.max_kl.has_value() && !(kl <= *limits.max_kl)) {
      over.push_back(
          absl::StrFormat("KL divergence from the floats would be %.4g nats a "
                          "token, and max_kl is %g",
                          kl, *limits.max_kl));
    }
  }
  if (limits.of_pictures()) {
    OUNCE_CHECK(detection.has_value(), "limits of pictures have samples");
    if (2 * detection->matched < detection->float_detections) {
      over.push_back(absl::StrFormat(
          "of the floats' %d objects %d would be found again, and "
          "max_box_drift needs half of them",
          detection->float_detections, detection->matched));
    } else if (!(detection->mean_box_drift <= *limits.max_box_drift)) {
      over.push_back(absl::StrFormat(
          "boxes would drift by %.4g pixels, and max_box_drift is %g",
          detection->mean_box_drift, *limits.max_box_drift));
    }
  }
  if (over.empty()) return absl::OkStatus();
  return Refusal(Reason::kQualityTooLow,
                 absl::StrCat("the new version does not serve: ",
                              absl::StrJoin(over, "; ")));
}

}  // namespace ounce::server
