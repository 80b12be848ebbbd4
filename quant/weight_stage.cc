#include "quant/weight_stage.h"

#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {
namespace {

// The last of several matrices, of which each reads the one before it.
class StagedRows final : public ChangedRows {
 public:
  StagedRows(std::vector<std::unique_ptr<const FloatRows>> chain,
             const FloatRows& last)
      : ChangedRows(last), chain_(std::move(chain)) {}

 private:
  void ChangeRow(int64_t, float*) const override {}

  const std::vector<std::unique_ptr<const FloatRows>> chain_;
};

}  // namespace

std::string StageSpec::ToString() const {
  const std::string own = ParamsText(stage->params(), params);
  return StrCat(stage->name(), own.empty() ? "" : ":", own);
}

absl::Status ChangedRows::Read(int64_t first, int64_t count, float* out) const {
  RETURN_IF_ERROR(weight_.Read(first, count, out));
  for (int64_t i = 0; i < count; ++i) ChangeRow(first + i, out + i * cols());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const FloatRows>> ApplyStages(
    absl::Span<const StageSpec> stages, const FloatRows& weight) {
  std::vector<std::unique_ptr<const FloatRows>> chain;
  const FloatRows* last = &weight;
  for (const StageSpec& spec : stages) {
    ASSIGN_OR_RETURN(std::unique_ptr<const FloatRows> changed,
                     spec.stage->Apply(*last, spec.params));
    chain.push_back(std::move(changed));
    last = chain.back().get();
  }
  return std::make_unique<const StagedRows>(std::move(chain), *last);
}

}  // namespace ounce::quant
