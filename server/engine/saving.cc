#include "server/engine/saving.h"

#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "model/checkpoint/checkpoint.h"
#include "model/files/byte_source.h"
#include "model/loader/method_plan.h"
#include "model/saver/new_folder.h"
#include "model/saver/saver.h"
#include "server/engine/background_thread.h"
#include "server/engine/built_version.h"
#include "server/engine/save_card.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

absl::Status CheckFormat(const std::string& format) {
  if (format.empty()) return absl::OkStatus();
  std::vector<std::string> names;
  for (const model::SaveFormatInfo& info : model::SaveFormats()) {
    if (info.name == format) return absl::OkStatus();
    names.emplace_back(info.name);
  }
  return FieldError("format",
                    absl::StrCat("must be one of ", absl::StrJoin(names, ", "),
                                 ", is ", model::Quoted(format)));
}

// What saving alone ended with.
absl::Status AboutSaving(const absl::Status& status) {
  if (model::IsOfFullDisk(status)) {
    return WithReason(status, Reason::kDiskFull);
  }
  if (!model::IsOfNewFolder(status)) {
    return status.code() == absl::StatusCode::kFailedPrecondition
               ? AboutField(WithReason(status, Reason::kFormatCannotHold),
                            "format")
               : AboutCheckpoint(status);
  }
  switch (status.code()) {
    case absl::StatusCode::kAlreadyExists:
      return AboutField(WithReason(status, Reason::kFolderExists), "folder");
    case absl::StatusCode::kResourceExhausted:
      return AboutCheckpoint(status);  // descriptors
    default:
      return AboutField(WithReason(status, Reason::kFolderNotWritable),
                        "folder");
  }
}

// What is written, and its place while it may still have to go.
struct Saved {
  std::shared_ptr<const SaveRoot::Place> place;
  model::SaveReport report;

  void Remove() {
    std::error_code ignored;
    std::filesystem::remove_all(place->path(), ignored);
  }
};

absl::StatusOr<model::SaveReport> Write(const VersionToSave& version,
                                        const model::Checkpoint& checkpoint,
                                        model::SaveOptions options) {
  absl::Status changed;
  const auto check = [&]() -> absl::Status {
    const absl::StatusOr<CheckpointFingerprint> now = FingerprintOf(checkpoint);
    changed = now.ok()
                  ? CheckUnchanged(version.fingerprint, *now, version.folder)
                  : now.status();
    return changed;
  };
  // Once more, now that all of it was read.
  options.check = check;
  absl::StatusOr<model::SaveReport> saved =
      model::SaveModel(checkpoint, options);
  if (saved.ok()) return saved;
  // A file that was changed meanwhile explains most errors.
  if (changed.ok() && (absl::IsDataLoss(saved.status()) ||
                       absl::IsInvalidArgument(saved.status()))) {
    (void)check();
  }
  return changed.ok() ? AboutSaving(saved.status()) : changed;
}

model::SaveOptions OptionsOf(const ModelInfo& info, const SaveParams& params) {
  model::SaveOptions options;
  options.format = params.format;
  options.name = CardName(info);
  options.sections = QualitySections(info);
  if (params.max_shard_bytes > 0) {
    options.max_shard_bytes = params.max_shard_bytes;
  }
  return options;
}

SaveReport ReportOf(const ModelInfo& info, const Saved& saved) {
  SaveReport report;
  report.model = info.name;
  report.version = info.version;
  report.plan = info.plan;
  report.folder = saved.place->path();
  report.format = saved.report.format;
  for (const model::SavedFile& file : saved.report.files) {
    report.files.push_back({.name = file.name, .bytes = file.bytes});
  }
  report.weight_bytes = saved.report.weight_bytes;
  return report;
}

}  // namespace

absl::StatusOr<SaveReport> SaveVersion(
    const VersionToSave& version, const SaveRoot& root,
    const SaveParams& params,
    const std::function<absl::Status(const SaveUpdate&)>& tell,
    const std::function<absl::Status()>& proceed) {
  RETURN_IF_ERROR(CheckFormat(params.format));
  model::SaveOptions options = OptionsOf(version.info, params);
  ASSIGN_OR_RETURN(options.plan, model::ParseMethodPlan(version.info.plan));
  Saved done;
  const absl::Status status = RunInBackground(
      [version, root, folder = params.folder, options, &tell,
       &done](Waiter& waiter) mutable -> absl::Status {
        const auto going_on = [&] { return waiter.CheckProceed(); };
        Saved saved;
        ASSIGN_OR_RETURN(saved.place, root.Take(folder));
        ASSIGN_OR_RETURN(
            const auto checkpoint,
            ReopenCheckpoint(version.folder, version.fingerprint, going_on));
        absl::Status told;
        options.folder = saved.place->path();
        options.progress = [&](const model::SaveProgress& progress) {
          told = waiter.Ask([&] {
            return tell({.bytes_done = progress.bytes_done,
                         .bytes_total = progress.bytes_total,
                         .tensor = progress.tensor});
          });
          return told;
        };
        absl::StatusOr<model::SaveReport> report =
            Write(version, *checkpoint, options);
        RETURN_IF_ERROR(told);
        RETURN_IF_ERROR(report.status());
        saved.report = *std::move(report);
        // From here on it is the caller's, unless nobody waits for it.
        absl::Status handed_over = waiter.Ask([&] {
          done = saved;
          return absl::OkStatus();
        });
        if (!handed_over.ok()) saved.Remove();
        return handed_over;
      },
      proceed);
  if (!status.ok()) {
    if (done.place != nullptr) done.Remove();
    return status;
  }
  return ReportOf(version.info, done);
}

}  // namespace ounce::server
