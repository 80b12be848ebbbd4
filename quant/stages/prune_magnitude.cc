// Zeros for the weights of smallest magnitude, exactly
//
//   k = round(sparsity * n)   (halves to even, as torch.nn.utils.prune counts)
//
// of the n weights of a tensor or of each row. Of equal magnitudes those that
// come first, row by row, are the smaller ones.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "quant/encode_rows.h"
#include "quant/ranked.h"
#include "quant/weight_stage.h"

namespace ounce::quant {
namespace {

int64_t NumZeros(double sparsity, int64_t n) {
  return std::llrint(sparsity * static_cast<double>(n));
}

// What becomes zero of a sequence: all that is smaller than `threshold`, and
// the first `ties` that are equal to it.
struct Cut {
  uint32_t threshold = 0;
  int64_t ties = 0;
};

// To take k > 0 of these, which get another order.
Cut CutOf(std::vector<uint32_t>& bits, int64_t k) {
  const auto kth = bits.begin() + (k - 1);
  std::nth_element(bits.begin(), kth, bits.end());
  const int64_t smaller =
      std::count_if(bits.begin(), kth, [&](uint32_t b) { return b < *kth; });
  return {*kth, k - smaller};
}

// Zeros what the cut takes; `cut.ties` is less by those met.
void ZeroRow(float* values, int64_t cols, Cut& cut) {
  for (int64_t col = 0; col < cols; ++col) {
    const uint32_t bits = MagnitudeBits(values[col]);
    if (bits > cut.threshold) continue;
    if (bits == cut.threshold && cut.ties-- <= 0) continue;
    values[col] = 0;
  }
}

class RowsPrunedEach final : public ChangedRows {
 public:
  RowsPrunedEach(const FloatRows& weight, double sparsity)
      : ChangedRows(weight), zeros_(NumZeros(sparsity, weight.cols())) {}

 private:
  void ChangeRow(int64_t, float* values) const override {
    if (zeros_ == 0) return;
    std::vector<uint32_t> bits(cols());
    std::transform(values, values + cols(), bits.begin(), MagnitudeBits);
    Cut cut = CutOf(bits, zeros_);
    ZeroRow(values, cols(), cut);
  }

  const int64_t zeros_;  // of a row
};

class RowsPrunedTogether final : public ChangedRows {
 public:
  // All ties of the rows before `last_row` become zero, of that one so many.
  RowsPrunedTogether(const FloatRows& weight, uint32_t threshold,
                     int64_t last_row, int64_t ties_of_last)
      : ChangedRows(weight),
        threshold_(threshold),
        last_row_(last_row),
        ties_of_last_(ties_of_last) {}

 private:
  void ChangeRow(int64_t row, float* values) const override {
    Cut cut = {threshold_, row < last_row_    ? cols()
                           : row == last_row_ ? ties_of_last_
                                              : 0};
    ZeroRow(values, cols(), cut);
  }

  const uint32_t threshold_;
  const int64_t last_row_;
  const int64_t ties_of_last_;
};

// Finds the k-th smallest of all (FindRanked), and in a further pass the row of
// the last tie that becomes zero, if not all do.
absl::StatusOr<std::unique_ptr<const FloatRows>> PruneTogether(
    const FloatRows& weight, double sparsity) {
  const int64_t cols = weight.cols();
  const int64_t k = NumZeros(sparsity, weight.rows() * cols);
  if (k == 0) {
    return std::make_unique<const RowsPrunedTogether>(weight, 0, 0, 0);
  }
  ASSIGN_OR_RETURN(const std::vector<Ranked> found,
                   FindRanked(weight, {k - 1}, MagnitudeBits));
  const Ranked& kth = found[0];
  int64_t last_row = weight.rows(), ties_of_last = 0;
  if (int64_t left = kth.place + 1; left < kth.equal) {
    RETURN_IF_ERROR(ForEachRow(weight, [&](int64_t row, const float* values) {
      if (left == 0) return;
      const int64_t ties = std::count_if(
          values, values + cols,
          [&](float value) { return MagnitudeBits(value) == kth.key; });
      last_row = row;
      ties_of_last = std::min(ties, left);
      left -= ties_of_last;
    }));
  }
  return std::make_unique<const RowsPrunedTogether>(weight, kth.key, last_row,
                                                    ties_of_last);
}

class PruneMagnitude final : public WeightStage {
 public:
  std::string_view name() const override { return "prune-magnitude"; }
  std::string_view summary() const override {
    return "Zeros for the weights of smallest magnitude; bytes stay the same.";
  }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "sparsity",
         .type = ParamSpec::Type::kNumber,
         .default_value = "0.5",
         .lowest = 0.001,
         .highest = 0.999,
         .help = "the share of the weights that becomes zero"},
        {.name = "per",
         .type = ParamSpec::Type::kChoice,
         .default_value = "tensor",
         .choices = {"tensor", "row"},
         .help = "of what that is the share, and the smallest: of a tensor, or "
                 "of each row (the weights of an output)"},
    };
    return params;
  }
  absl::StatusOr<std::unique_ptr<const FloatRows>> Apply(
      const FloatRows& weight, const ParamValues& params) const override {
    const double sparsity = NumberOf(params, "sparsity");
    if (params.at("per") == "row") {
      return std::make_unique<const RowsPrunedEach>(weight, sparsity);
    }
    return PruneTogether(weight, sparsity);
  }
};

}  // namespace

const WeightStage& PruneMagnitudeStage() {
  static const PruneMagnitude stage;
  return stage;
}

}  // namespace ounce::quant
