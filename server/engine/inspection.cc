#include "server/engine/inspection.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/files/byte_source.h"
#include "model/loader/tensor_rows.h"
#include "nlohmann/json.hpp"
#include "quant/codes.h"
#include "quant/dtype.h"
#include "quant/error_stats.h"
#include "quant/float_rows.h"
#include "server/engine/built_version.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

constexpr int kBins = 32;
constexpr int64_t kBandElements = 1 << 18;

// Counted in two passes: what there is, then how it is distributed.
class Counter {
 public:
  void AddToExtent(double value) {
    if (!std::isfinite(value)) {
      ++found_.non_finite;
      return;
    }
    if (found_.count == 0) found_.min = found_.max = value;
    found_.min = std::min(found_.min, value);
    found_.max = std::max(found_.max, value);
    ++found_.count;
    if (value == 0) ++found_.zeros;
    sum_ += value;
    squares_ += value * value;
  }
  void AddToBins(double value) {
    if (!std::isfinite(value)) return;
    if (found_.bins.empty()) found_.bins.resize(kBins);
    const double width = (found_.max - found_.min) / kBins;
    const auto bin =
        width > 0 ? static_cast<int64_t>((value - found_.min) / width) : 0;
    ++found_.bins[std::clamp<int64_t>(bin, 0, kBins - 1)];
  }
  Distribution Result() && {
    if (found_.count > 0) {
      const auto count = static_cast<double>(found_.count);
      found_.mean = sum_ / count;
      found_.standard_deviation = std::sqrt(
          std::max(0.0, squares_ / count - found_.mean * found_.mean));
    }
    return std::move(found_);
  }

 private:
  Distribution found_;
  double sum_ = 0, squares_ = 0;
};

absl::StatusOr<const model::TensorInfo*> Find(
    const model::Checkpoint& checkpoint, const std::string& tensor) {
  const auto& tensors = checkpoint.tensors();
  const auto found = tensors.find(tensor);
  if (found == tensors.end()) {
    const auto with_weight = tensors.find(tensor + ".weight");
    const auto example =
        with_weight != tensors.end() ? with_weight : tensors.begin();
    return Refusal(
        Reason::kTensorNotFound,
        absl::StrCat(
            "the checkpoint has no tensor ", model::Quoted(tensor),
            example == tensors.end()
                ? ""
                : absl::StrCat("; it has ", model::Quoted(example->first))));
  }
  const model::TensorInfo& info = found->second;
  if (!quant::IsFloat(info.dtype)) {
    return AboutField(
        absl::InvalidArgumentError(absl::StrCat(
            "tensor ", model::Quoted(tensor), " is of ",
            std::string(quant::Name(info.dtype)), ", which is no float")),
        "tensor");
  }
  return &info;
}

// A tensor as it lies in the file, in bands of whole rows.
class Values {
 public:
  Values(const model::Checkpoint& checkpoint, const std::string& tensor,
         const model::TensorInfo& info,
         const std::function<absl::Status()>& proceed)
      : checkpoint_(checkpoint),
        tensor_(tensor),
        elements_(info.elements()),
        proceed_(proceed) {}

  template <class Take>
  absl::Status ForEach(Take take) const {
    std::vector<float> values(std::min(kBandElements, elements_));
    for (int64_t first = 0; first < elements_; first += kBandElements) {
      RETURN_IF_ERROR(proceed_());
      const int64_t count = std::min(kBandElements, elements_ - first);
      RETURN_IF_ERROR(
          checkpoint_.ReadFloats(tensor_, first, count, values.data()));
      for (int64_t i = 0; i < count; ++i) take(values[i]);
    }
    return absl::OkStatus();
  }

 private:
  const model::Checkpoint& checkpoint_;
  const std::string& tensor_;
  const int64_t elements_;
  const std::function<absl::Status()>& proceed_;
};

// What codes make of the floats, less these.
class Errors {
 public:
  Errors(const quant::FloatRows& floats, const quant::CodeRows& codes,
         const std::function<absl::Status()>& proceed)
      : floats_(floats), codes_(codes), proceed_(proceed) {}

  // `take` gets a run of floats and what codes make of them.
  template <class Take>
  absl::Status ForEach(Take take) const {
    const int64_t cols = floats_.cols();
    const int64_t at_once = std::max<int64_t>(1, kBandElements / cols);
    std::vector<float> wanted(std::min(at_once, floats_.rows()) * cols);
    std::vector<float> found(wanted.size());
    for (int64_t row = 0; row < floats_.rows(); row += at_once) {
      RETURN_IF_ERROR(proceed_());
      const int64_t count = std::min(at_once, floats_.rows() - row);
      RETURN_IF_ERROR(floats_.Read(row, count, wanted.data()));
      RETURN_IF_ERROR(quant::ReadValues(codes_, row, count, found.data()));
      take(wanted.data(), found.data(), count * cols);
    }
    return absl::OkStatus();
  }

 private:
  const quant::FloatRows& floats_;
  const quant::CodeRows& codes_;
  const std::function<absl::Status()>& proceed_;
};

absl::Status MeasureErrors(const model::Checkpoint& checkpoint,
                           const quant::MethodSpec& method, quant::DType dtype,
                           bool transposed,
                           const std::function<absl::Status()>& proceed,
                           TensorValues* out) {
  ASSIGN_OR_RETURN(const std::unique_ptr<const quant::FloatRows> floats,
                   model::RowsOf(checkpoint, out->tensor, transposed,
                                 /*allows_non_finite=*/true));
  ASSIGN_OR_RETURN(const std::unique_ptr<const quant::CodeRows> codes,
                   method.Encode(*floats));
  const Errors errors(*floats, *codes, proceed);
  Counter counter;
  quant::ErrorMeter meter;
  RETURN_IF_ERROR(errors.ForEach(
      [&](const float* wanted, const float* found, int64_t count) {
        meter.Add(wanted, found, count);
        for (int64_t i = 0; i < count; ++i) {
          counter.AddToExtent(double{found[i]} - wanted[i]);
        }
      }));
  RETURN_IF_ERROR(errors.ForEach(
      [&](const float* wanted, const float* found, int64_t count) {
        for (int64_t i = 0; i < count; ++i) {
          counter.AddToBins(double{found[i]} - wanted[i]);
        }
      }));
  ASSIGN_OR_RETURN(const quant::CodeFormat format,
                   method.Format(floats->rows(), floats->cols(), dtype));
  out->method = method.ToString();
  out->note = format.note;
  out->method_bytes =
      codes->format().StoredBytes(floats->rows(), floats->cols());
  out->errors = std::move(counter).Result();
  const quant::ErrorStats stats = meter.stats();
  out->relative_l2_error = stats.relative_l2;
  out->snr_db = stats.snr_db;
  return absl::OkStatus();
}

absl::StatusOr<TensorValues> LookAt(
    const model::Checkpoint& checkpoint, const model::LoadReport& report,
    const std::string& tensor, const std::optional<quant::MethodSpec>& method,
    const std::function<absl::Status()>& proceed) {
  ASSIGN_OR_RETURN(const model::TensorInfo* info, Find(checkpoint, tensor));
  TensorValues out;
  out.tensor = tensor;
  if (method.has_value() && (info->shape.size() < 2 || info->elements() == 0)) {
    return AboutField(absl::InvalidArgumentError(absl::StrCat(
                          "tensor ", model::Quoted(tensor),
                          " is no matrix, which is what methods store")),
                      "method");
  }
  const Values values(checkpoint, tensor, *info, proceed);
  Counter counter;
  RETURN_IF_ERROR(
      values.ForEach([&](float value) { counter.AddToExtent(value); }));
  RETURN_IF_ERROR(
      values.ForEach([&](float value) { counter.AddToBins(value); }));
  out.values = std::move(counter).Result();
  if (method.has_value()) {
    const auto reported = std::find_if(
        report.tensors.begin(), report.tensors.end(),
        [&](const model::TensorReport& one) { return one.name == tensor; });
    const bool transposed =
        reported != report.tensors.end() && reported->transposed;
    RETURN_IF_ERROR(MeasureErrors(checkpoint, *method, info->dtype, transposed,
                                  proceed, &out));
  }
  return out;
}

}  // namespace

absl::StatusOr<Inspection> InspectCheckpoint(
    const model::Checkpoint& checkpoint, const model::LoadOptions& options,
    const std::string& tensor, const std::optional<quant::MethodSpec>& method,
    const std::function<absl::Status()>& proceed) {
  ASSIGN_OR_RETURN(const model::ModelPlan plan,
                   model::PlanModel(checkpoint, options));
  Inspection inspection;
  inspection.folder = checkpoint.folder();
  inspection.architecture = checkpoint.config().value("model_type", "");
  inspection.plan = plan.report.plan;
  inspection.checkpoint_bytes = plan.report.checkpoint_bytes;
  inspection.stored_bytes = plan.report.stored_bytes;
  inspection.resident_bytes = plan.report.resident_bytes;
  for (const model::TensorReport& reported : plan.report.tensors) {
    InspectedTensor& inspected = inspection.tensors.emplace_back();
    inspected.outcome = OutcomeOf(reported);
    inspected.resident_bytes = reported.resident_bytes;
    const auto stored = checkpoint.tensors().find(reported.name);
    if (stored != checkpoint.tensors().end()) {
      inspected.dtype = stored->second.coded != nullptr
                            ? stored->second.coded->spec.ToString()
                            : std::string(quant::Name(stored->second.dtype));
    }
  }
  if (!tensor.empty()) {
    ASSIGN_OR_RETURN(inspection.values,
                     LookAt(checkpoint, plan.report, tensor, method, proceed));
  }
  return inspection;
}

}  // namespace ounce::server
