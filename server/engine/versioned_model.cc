#include "server/engine/versioned_model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/model.h"
#include "server/engine/served_causal_lm.h"
#include "server/engine/served_detector.h"

namespace ounce::server {

VersionedModel::VersionedModel(ModelInfo info, std::string folder,
                               CheckpointFingerprint fingerprint)
    : folder_(std::move(folder)),
      fingerprint_(std::move(fingerprint)),
      info_(std::move(info)) {}

ModelInfo VersionedModel::info() const {
  ModelInfo result;
  {
    MutexLock lock(&mu_);
    result = info_;
  }
  result.stats = stats();
  return result;
}

ModelState VersionedModel::state() const {
  MutexLock lock(&mu_);
  return info_.state;
}

void VersionedModel::SetState(ModelState state) {
  MutexLock lock(&mu_);
  info_.state = state;
}

absl::Status VersionedModel::Swap(int64_t version, BuiltVersion built) {
  const model::LoadReport report = built.report;
  RETURN_IF_ERROR(SetEngine(version, std::move(built)));
  MutexLock lock(&mu_);
  info_.version = version;
  DescribeWeights(report, &info_);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Detections>> VersionedModel::Detect(
    // Overrides keep it. NOLINTNEXTLINE(performance-unnecessary-value-param)
    std::shared_ptr<const model::Model> /*model*/,
    absl::Span<const std::shared_ptr<const Picture>> /*pictures*/,
    const std::function<absl::Status()>& /*proceed*/) const {
  return CheckTask(info(), Task::kDetectObjects);
}

ModelInfo NewModelInfo(const std::string& name, const std::string& path,
                       const BuiltVersion& built) {
  ModelInfo info;
  info.name = name;
  info.path = path;
  info.architecture = std::string(built.model->architecture());
  info.state = ModelState::kLoading;
  info.version = 1;
  DescribeWeights(built.report, &info);
  return info;
}

absl::StatusOr<std::shared_ptr<VersionedModel>> Serve(
    const EngineContext& context, const std::string& name,
    const std::string& path, BuiltVersion built) {
  if (built.model->causal_lm() != nullptr) {
    return ServeCausalLm(context, name, path, std::move(built), nullptr);
  }
  if (built.model->detector() != nullptr) {
    return ServeDetector(context, name, path, std::move(built), nullptr);
  }
  return absl::UnimplementedError(absl::StrCat(
      "architecture ", std::string(built.model->architecture()),
      " neither generates text nor detects objects, and nothing else is "
      "served"));
}

}  // namespace ounce::server
