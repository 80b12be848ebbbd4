// 2:4 sparsity: of each run of four columns, in the checkpoint's order, the two
// weights of smallest magnitude become zero; of equal magnitudes the first. A
// row's last run may be shorter; it is taken as if zeros filled it up, so of
// three weights one becomes zero, and of two none.
#include <algorithm>

#include "quant/weight_stage.h"

namespace ounce::quant {
namespace {

class PrunedRuns final : public ChangedRows {
 public:
  using ChangedRows::ChangedRows;

 private:
  void ChangeRow(int64_t, float* values) const override {
    constexpr int64_t kRun = 4, kKept = 2;
    for (int64_t col = 0; col < cols(); col += kRun) {
      const int64_t count = std::min(kRun, cols() - col);
      float* run = values + col;
      int64_t order[kRun] = {0, 1, 2, 3};
      std::stable_sort(order, order + count, [&](int64_t a, int64_t b) {
        return MagnitudeBits(run[a]) < MagnitudeBits(run[b]);
      });
      for (int64_t i = 0; i < count - kKept; ++i) run[order[i]] = 0;
    }
  }
};

class Prune24 final : public WeightStage {
 public:
  std::string_view name() const override { return "prune-24"; }
  std::string_view summary() const override {
    return "Zeros for the two weights of smallest magnitude of each run of "
           "four columns; bytes stay the same.";
  }
  absl::StatusOr<std::unique_ptr<const FloatRows>> Apply(
      const FloatRows& weight, const ParamValues&) const override {
    return std::make_unique<const PrunedRuns>(weight);
  }
};

}  // namespace

const WeightStage& Prune24Stage() {
  static const Prune24 stage;
  return stage;
}

}  // namespace ounce::quant
