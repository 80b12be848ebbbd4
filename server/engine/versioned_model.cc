#include "server/engine/versioned_model.h"

#include <utility>

#include "base/status_macros.h"
#include "model/model.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {

VersionedModel::VersionedModel(ModelInfo info, const BuiltVersion& built,
                               std::shared_ptr<const ServedTask> served_task)
    : folder_(built.folder),
      fingerprint_(built.fingerprint),
      served_task_(std::move(served_task)),
      info_(std::move(info)) {
  if (built.has_own_floats) own_floats_ = built.model;
}

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
  std::weak_ptr<const model::Model> own_floats;
  if (built.has_own_floats) own_floats = built.model;
  RETURN_IF_ERROR(SetEngine(version, std::move(built)));
  MutexLock lock(&mu_);
  own_floats_ = std::move(own_floats);
  info_.version = version;
  info_.quality.reset();
  info_.detection.reset();
  DescribeWeights(report, &info_);
  return absl::OkStatus();
}

void VersionedModel::NoteVersion(int64_t version, std::string method,
                                 std::weak_ptr<VersionMemory> memory,
                                 std::weak_ptr<const void> engine) {
  MutexLock lock(&mu_);
  std::erase_if(versions_,
                [](const Version& old) { return old.memory.expired(); });
  for (const Version& old : versions_) {
    if (const auto held = old.memory.lock()) held->reservation.MarkEnding();
  }
  versions_.push_back(
      {version, std::move(method), std::move(memory), std::move(engine)});
}

absl::StatusOr<VersionedModel::Pinned> VersionedModel::Pin() const {
  MutexLock lock(&mu_);
  const Version& serving = versions_.back();
  const std::shared_ptr<VersionMemory> memory = serving.memory.lock();
  if (memory == nullptr) return NotServedAnyMore();
  return Pinned{
      serving.number, serving.method,
      std::shared_ptr<const model::Model>(memory, memory->model.get()),
      serving.engine.lock()};
}

void VersionedModel::NoteQuality(const TextQuality& quality) {
  MutexLock lock(&mu_);
  if (info_.version == quality.version) info_.quality = quality;
  ChangeHistory([&](ModelHistory& history) {
    for (VersionRecord& record : history.versions) {
      if (record.version == quality.version) record.quality = quality;
    }
  });
}

void VersionedModel::NoteQuality(const DetectionQuality& quality) {
  MutexLock lock(&mu_);
  if (info_.version == quality.version) info_.detection = quality;
  ChangeHistory([&](ModelHistory& history) {
    for (VersionRecord& record : history.versions) {
      if (record.version == quality.version) record.detection = quality;
    }
  });
}

void VersionedModel::NoteServing(absl::Time since, absl::Duration took) {
  MutexLock lock(&mu_);
  const VersionRecord record = {.version = info_.version,
                                .since = since,
                                .plan = info_.plan,
                                .method = info_.method,
                                .stored_bytes = info_.stored_bytes,
                                .resident_bytes = info_.resident_bytes,
                                .seconds = absl::ToDoubleSeconds(took),
                                .quality = info_.quality,
                                .detection = info_.detection};
  ChangeHistory([&](ModelHistory& history) {
    auto& versions = history.versions;
    if (versions.size() == ModelHistory::kMaxVersions) {
      versions.erase(versions.begin());
    }
    versions.push_back(record);
  });
}

void VersionedModel::NoteReport(absl::Time now, const QuantizeReport& report,
                                bool dry_run) {
  auto kept = std::make_shared<const QuantizeReport>(report);
  MutexLock lock(&mu_);
  ChangeHistory([&](ModelHistory& history) {
    history.report = std::move(kept);
    history.dry_run = dry_run;
    history.reported = now;
  });
}

void VersionedModel::ChangeHistory(
    const std::function<void(ModelHistory&)>& change) {
  auto history = info_.history == nullptr
                     ? std::make_shared<ModelHistory>()
                     : std::make_shared<ModelHistory>(*info_.history);
  change(*history);
  info_.history = std::move(history);
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

std::shared_ptr<const model::Model> VersionedModel::own_floats() const {
  MutexLock lock(&mu_);
  return own_floats_.lock();
}

ModelInfo NewModelInfo(const std::string& name, const std::string& path,
                       const BuiltVersion& built) {
  ModelInfo info;
  info.name = name;
  info.path = path;
  info.architecture = std::string(built.model->architecture());
  info.state = ModelState::kLoading;
  info.version = 1;
  info.compute = quant::ComputeName(built.model->compute());
  DescribeWeights(built.report, &info);
  return info;
}

}  // namespace ounce::server
