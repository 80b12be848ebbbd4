#include "model/loader/stored_codes.h"

#include <cmath>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/loader/tensor_rows.h"
#include "quant/convolution.h"
#include "quant/float_rows.h"

namespace ounce::model {
namespace {

// Codes with the floats that they are made of.
class OwningCodes final : public quant::CodeRows {
 public:
  OwningCodes(std::vector<std::unique_ptr<const quant::FloatRows>> floats,
              std::unique_ptr<const quant::CodeRows> codes)
      : floats_(std::move(floats)), codes_(std::move(codes)) {}

  const std::string& name() const override { return codes_->name(); }
  int64_t rows() const override { return codes_->rows(); }
  int64_t cols() const override { return codes_->cols(); }
  const quant::CodeFormat& format() const override { return codes_->format(); }
  absl::Span<const int32_t> order() const override { return codes_->order(); }
  absl::Status Read(int64_t first, int64_t count,
                    quant::CodeBand& out) const override {
    return codes_->Read(first, count, out);
  }

 private:
  const std::vector<std::unique_ptr<const quant::FloatRows>> floats_;
  const std::unique_ptr<const quant::CodeRows> codes_;
};

absl::StatusOr<std::vector<float>> ReadFactors(const Checkpoint& checkpoint,
                                               const std::string& module,
                                               int64_t channels) {
  BatchNorm norm;
  const std::pair<const char*, std::vector<float>*> vectors[] = {
      {".weight", &norm.weight},
      {".bias", &norm.bias},
      {".running_mean", &norm.mean},
      {".running_var", &norm.variance}};
  for (const auto& [suffix, values] : vectors) {
    values->resize(channels);
    RETURN_IF_ERROR(
        checkpoint.ReadFloats(module + suffix, 0, channels, values->data()));
  }
  RETURN_IF_ERROR(norm.Fold(module));
  return std::move(norm.weight);
}

}  // namespace

absl::Status BatchNorm::Fold(const std::string& module) {
  constexpr float kEpsilon = 1e-5f;
  for (size_t i = 0; i < weight.size(); ++i) {
    if (!(variance[i] >= 0)) {
      return absl::InvalidArgumentError(
          StrCat("tensor '", module,
                 ".running_var': must be 0 or more everywhere, element ", i,
                 " is ", variance[i]));
    }
    weight[i] /= std::sqrt(variance[i] + kEpsilon);
    bias[i] -= mean[i] * weight[i];
    if (!std::isfinite(weight[i]) || !std::isfinite(bias[i])) {
      return absl::InvalidArgumentError(StrCat("batch norm '", module,
                                               "': channel ", i,
                                               " is not finite when folded"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const quant::CodeRows>> EncodeFolded(
    const quant::MethodSpec& spec, const quant::FloatRows& weight,
    std::vector<float> factors) {
  std::vector<std::unique_ptr<const quant::FloatRows>> floats(2);
  ASSIGN_OR_RETURN(floats[0], quant::ApplyStages(spec.stages, weight));
  floats[1] =
      std::make_unique<const quant::ScaledRows>(*floats[0], std::move(factors));
  ASSIGN_OR_RETURN(auto codes, spec.method->Encode(*floats[1], spec.params));
  return std::make_unique<const OwningCodes>(std::move(floats),
                                             std::move(codes));
}

absl::StatusOr<std::unique_ptr<const quant::CodeRows>> OpenStoredCodes(
    const Checkpoint& checkpoint, const TensorReport& report) {
  const StoredAs& stored = *report.stored_as;
  const TensorInfo& info = checkpoint.tensors().at(stored.tensor);
  if (stored.keeps_codes) return info.coded->open();
  std::vector<std::unique_ptr<const quant::FloatRows>> floats(1);
  ASSIGN_OR_RETURN(floats[0],
                   RowsOf(checkpoint, stored.tensor, report.transposed,
                          stored.allows_non_finite));
  std::unique_ptr<const quant::CodeRows> codes;
  if (stored.batch_norm.empty()) {
    ASSIGN_OR_RETURN(codes, stored.spec.Encode(*floats[0]));
  } else {
    ASSIGN_OR_RETURN(
        std::vector<float> factors,
        ReadFactors(checkpoint, stored.batch_norm, floats[0]->rows()));
    ASSIGN_OR_RETURN(codes,
                     EncodeFolded(stored.spec, *floats[0], std::move(factors)));
  }
  return std::make_unique<const OwningCodes>(std::move(floats),
                                             std::move(codes));
}

}  // namespace ounce::model
