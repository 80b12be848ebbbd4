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

void VersionedModel::NoteVersion(int64_t version,
                                 std::weak_ptr<VersionMemory> memory,
                                 std::weak_ptr<const void> engine) {
  MutexLock lock(&mu_);
  std::erase_if(versions_,
                [](const Version& old) { return old.memory.expired(); });
  for (const Version& old : versions_) {
    if (const auto held = old.memory.lock()) held->reservation.MarkEnding();
  }
  versions_.push_back({version, std::move(memory), std::move(engine)});
}

std::vector<VersionedModel::OldVersion> VersionedModel::OldVersions() const {
  MutexLock lock(&mu_);
  std::vector<OldVersion> result;
  for (const Version& version : versions_) {
    if (&version == &versions_.back()) break;
    if (const auto held = version.memory.lock()) {
      result.push_back({version.number, held->reservation.need().total(),
                        static_cast<int64_t>(version.engine.use_count())});
    }
  }
  return result;
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

absl::StatusOr<Companions> ReadCompanions(const model::Model& model,
                                          const std::string& folder) {
  Companions companions;
  if (model.causal_lm() != nullptr) {
    ASSIGN_OR_RETURN(companions.tokenizer, model::Tokenizer::Load(folder));
    return companions;
  }
  if (model.detector() != nullptr) {
    ASSIGN_OR_RETURN(model::DetrImageProcessor processor,
                     model::DetrImageProcessor::Load(folder));
    companions.image_processor =
        std::make_shared<const model::DetrImageProcessor>(processor);
    return companions;
  }
  return absl::UnimplementedError(absl::StrCat(
      "architecture ", std::string(model.architecture()),
      " neither generates text nor detects objects, and nothing else is "
      "served"));
}

MemoryNeed NeedOfNewModel(const EngineContext& context,
                          const model::Model& model,
                          const model::LoadReport& report,
                          const Companions& companions) {
  if (model.causal_lm() != nullptr) {
    MemoryNeed need = CausalLmNeed(context, *model.causal_lm(), report);
    need[MemoryShare::kKvCache] = KvFloorBytes(context, *model.causal_lm());
    return need;
  }
  return DetectorNeed(context, *model.detector(), report,
                      *companions.image_processor);
}

absl::StatusOr<std::shared_ptr<VersionedModel>> Serve(
    const EngineContext& context, const std::string& name,
    const std::string& path, BuiltVersion built, const Companions& companions) {
  if (companions.tokenizer != nullptr) {
    return ServeCausalLm(context, name, path, std::move(built),
                         companions.tokenizer);
  }
  return ServeDetector(context, name, path, std::move(built),
                       companions.image_processor);
}

}  // namespace ounce::server
