// The text of a plan of methods, as requests and files have it.
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"
#include "model/loader/method_plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ounce::model;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<MethodPlan> plan = ParseMethodPlan(text);
  if (!plan.ok()) {
    OUNCE_CHECK(plan.status().message().size() < 4000, "little is quoted");
    return 0;
  }
  const std::string written = plan->ToString();
  const absl::StatusOr<MethodPlan> again = ParseMethodPlan(written);
  OUNCE_CHECK(again.ok() && again->ToString() == written,
              "what is written is read back");
  OUNCE_CHECK(plan->Label().size() <= 128, "a label is short");
  for (const MethodRule& rule : plan->rules) {
    (void)rule.Matches("transformer.h.0.mlp.fc_in", WeightRole::kLinear);
  }
  if (const std::optional<ShortForm> form = ShortFormOf(*plan)) {
    const absl::StatusOr<MethodPlan> from = PlanOf("", *form);
    OUNCE_CHECK(from.ok() && from->ToString() == written,
                "a short form says the same");
  }
  return 0;
}
