#include "server/engine/built_version.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/status_macros.h"

namespace ounce::server {
namespace {

TensorKind KindOf(const model::TensorReport& tensor) {
  if (tensor.is_vector) return TensorKind::kVector;
  switch (tensor.role) {
    case model::WeightRole::kLinear:
      return TensorKind::kLinear;
    case model::WeightRole::kHead:
      return TensorKind::kHead;
    case model::WeightRole::kEmbedding:
      return TensorKind::kEmbedding;
    case model::WeightRole::kConvolution:
      return TensorKind::kConvolution;
  }
  return TensorKind::kLinear;
}

double SavedRatio(int64_t before, int64_t after) {
  if (before <= 0) return 0;
  return 1 - static_cast<double>(after) / static_cast<double>(before);
}

}  // namespace

absl::StatusOr<BuiltVersion> BuildVersion(
    const model::Checkpoint& checkpoint, const model::LoadOptions& options,
    MemoryBudget::Reservation reservation) {
  BuiltVersion built;
  built.folder = checkpoint.folder();
  ASSIGN_OR_RETURN(built.fingerprint, FingerprintOf(checkpoint));
  const auto memory = std::make_shared<VersionMemory>();
  memory->reservation = std::move(reservation);
  ASSIGN_OR_RETURN(model::LoadedModel loaded,
                   model::LoadModel(checkpoint, options));
  memory->model = std::move(loaded.model);
  built.model =
      std::shared_ptr<const model::Model>(memory, memory->model.get());
  built.memory = memory;
  built.report = std::move(loaded.report);
  built.has_own_floats =
      options.plan.keeps_all() ||
      (options.measure_error &&
       std::none_of(built.report.tensors.begin(), built.report.tensors.end(),
                    [](const model::TensorReport& tensor) {
                      return tensor.error.has_value();
                    }));
  return built;
}

absl::StatusOr<std::unique_ptr<model::Checkpoint>> ReopenCheckpoint(
    const std::string& folder, const CheckpointFingerprint& loaded,
    const std::function<absl::Status()>& proceed) {
  auto checkpoint = model::Checkpoint::Open(folder, proceed);
  if (!checkpoint.ok()) {
    // It was opened once, so these are about what has become of it.
    switch (checkpoint.status().code()) {
      case absl::StatusCode::kNotFound:
      case absl::StatusCode::kInvalidArgument:
      case absl::StatusCode::kPermissionDenied:
      case absl::StatusCode::kDataLoss:
      case absl::StatusCode::kUnimplemented:
        return ChangedError(folder, checkpoint.status().message());
      default:
        return checkpoint.status();
    }
  }
  ASSIGN_OR_RETURN(const CheckpointFingerprint now,
                   FingerprintOf(**checkpoint));
  RETURN_IF_ERROR(CheckUnchanged(loaded, now, folder));
  return checkpoint;
}

absl::StatusOr<BuiltVersion> RebuildVersion(
    const std::string& folder, const CheckpointFingerprint& loaded,
    const model::LoadOptions& options, MemoryBudget::Reservation reservation,
    const std::function<absl::Status()>& proceed) {
  ASSIGN_OR_RETURN(const auto checkpoint,
                   ReopenCheckpoint(folder, loaded, proceed));
  absl::StatusOr<BuiltVersion> built =
      BuildVersion(*checkpoint, options, std::move(reservation));
  // Once more, now that all of it was read; and a file that was changed
  // meanwhile explains most errors.
  if (built.ok() || absl::IsDataLoss(built.status()) ||
      absl::IsInvalidArgument(built.status())) {
    ASSIGN_OR_RETURN(const CheckpointFingerprint now,
                     FingerprintOf(*checkpoint));
    RETURN_IF_ERROR(CheckUnchanged(loaded, now, folder));
  }
  return built;
}

void DescribeWeights(const model::LoadReport& report, ModelInfo* info) {
  info->plan = report.plan;
  info->method = report.method;
  info->checkpoint_bytes = report.checkpoint_bytes;
  info->stored_bytes = report.stored_bytes;
  info->resident_bytes = report.resident_bytes;
  info->resident_bytes_by_element.assign(
      report.resident_bytes_by_element.begin(),
      report.resident_bytes_by_element.end());
  std::sort(info->resident_bytes_by_element.begin(),
            info->resident_bytes_by_element.end());
  info->parameters = 0;
  for (const model::TensorReport& tensor : report.tensors) {
    if (tensor.method.empty()) continue;
    int64_t elements = 1;
    for (const int64_t extent : tensor.shape) elements *= extent;
    info->parameters += elements;
  }
}

TensorOutcome OutcomeOf(const model::TensorReport& tensor) {
  TensorOutcome outcome;
  outcome.name = tensor.name;
  outcome.kind = KindOf(tensor);
  outcome.shape = tensor.shape;
  outcome.method = tensor.method;
  outcome.bytes_before = tensor.checkpoint_bytes;
  outcome.bytes_after = tensor.stored_bytes;
  outcome.left_alone = tensor.left_alone;
  if (tensor.error.has_value()) outcome.clamp_rate = tensor.error->clamped;
  outcome.computed_relative_l2_error = tensor.computed_relative_l2;
  outcome.note = tensor.note;
  outcome.sparsity = tensor.sparsity;
  if (tensor.error.has_value() && tensor.error->relative_l2 > 0) {
    outcome.relative_l2_error = tensor.error->relative_l2;
    outcome.snr_db = tensor.error->snr_db;
  }
  if (tensor.output_error.has_value()) {
    outcome.relative_l2_output_error = tensor.output_error->relative_l2;
  }
  return outcome;
}

QuantizeReport CompareWeights(const ModelInfo& before,
                              const model::LoadReport& after) {
  QuantizeReport report;
  report.plan = after.plan;
  report.method = after.method;
  report.method_before = before.method;
  report.stored_bytes_before = before.stored_bytes;
  report.stored_bytes_after = after.stored_bytes;
  report.resident_bytes_before = before.resident_bytes;
  report.resident_bytes_after = after.resident_bytes;
  report.checkpoint_bytes = after.checkpoint_bytes;
  report.saved_ratio = SavedRatio(after.checkpoint_bytes, after.stored_bytes);
  for (const model::Footprint& counted : after.footprints) {
    report.footprints.push_back(
        {.rule = std::string(counted.rule->name),
         .help = std::string(counted.rule->help),
         .bytes_before = counted.before,
         .bytes_after = counted.after,
         .saved_ratio = SavedRatio(counted.before, counted.after)});
  }
  report.tensors.reserve(after.tensors.size());
  for (const model::TensorReport& tensor : after.tensors) {
    report.tensors.push_back(OutcomeOf(tensor));
  }
  return report;
}

}  // namespace ounce::server
