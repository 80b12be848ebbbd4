#include "hub/pull.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/byte_size.h"
#include "base/status_macros.h"
#include "hub/cache_layout.h"
#include "hub/destination.h"
#include "hub/download.h"
#include "hub/hub_api.h"
#include "hub/parallel.h"
#include "hub/wanted_files.h"

namespace ounce::hub {
namespace {

// What a process that goes on beside us may need.
constexpr int64_t kRoomToLeave = 64 << 20;

std::string FullName(const ModelName& name) {
  return absl::StrCat(name.id, "@", name.revision);
}

// One pull that asks the hub.
class Puller {
 public:
  Puller(const Environment& environment, const PullOptions& options,
         const Hooks& hooks)
      : options_(options), hooks_(hooks) {
    for (int i = 0; i < std::max(1, options.connections); ++i) {
      apis_.push_back(
          std::make_unique<HubApi>(environment, options.name, hooks));
    }
    destination_ = options.into.empty()
                       ? IntoCache(environment.cache, options.name)
                       : IntoFolder(options.into);
  }

  absl::StatusOr<Pulled> Run(const OnProgress& on_progress) {
    ASSIGN_OR_RETURN(const Listing listing, apis_[0]->List());
    absl::StatusOr<std::vector<std::string>> wanted =
        WantedFiles(listing.paths, options_.include);
    if (!wanted.ok()) return WithContext(wanted.status(), options_.name.id);
    ASSIGN_OR_RETURN(files_, Look(listing.commit, *wanted));
    RETURN_IF_ERROR(CheckRoom());
    ProgressTeller progress(on_progress);
    for (const RemoteFile& file : files_) {
      progress.AddFile(file.path, file.size);
    }
    RETURN_IF_ERROR(ForEachFile(
        [&](HubApi& api, int i) { return Fetch(api, i, progress); }));
    RETURN_IF_ERROR(destination_->Finish(listing.commit, files_));
    return Pulled{destination_->Folder(listing.commit), listing.commit,
                  progress.files()};
  }

  const std::vector<RemoteFile>& files() const { return files_; }

 private:
  absl::Status ForEachFile(
      const std::function<absl::Status(HubApi&, int)>& work) {
    return InParallel(
        static_cast<int>(apis_.size()), static_cast<int>(files_.size()),
        [&](int worker, int i) { return work(*apis_[worker], i); });
  }

  absl::StatusOr<std::vector<RemoteFile>> Look(
      const std::string& commit, const std::vector<std::string>& paths) {
    std::vector<RemoteFile> files(paths.size());
    RETURN_IF_ERROR(InParallel(static_cast<int>(apis_.size()),
                               static_cast<int>(paths.size()),
                               [&](int worker, int i) {
                                 absl::StatusOr<RemoteFile> file =
                                     apis_[worker]->Look(commit, paths[i]);
                                 if (file.ok()) files[i] = *std::move(file);
                                 return file.status();
                               }));
    return files;
  }

  // Whether the disk takes what is not there yet.
  absl::Status CheckRoom() const {
    int64_t lacking = 0;
    for (const RemoteFile& file : files_) {
      std::error_code error;
      int64_t here = 0;
      for (const std::string& path : {destination_->WholePath(file),
                                      destination_->IncompletePath(file)}) {
        const auto size = std::filesystem::file_size(path, error);
        if (!error) here = std::max(here, static_cast<int64_t>(size));
      }
      lacking += std::max<int64_t>(0, file.size - here);
    }
    if (lacking == 0) return absl::OkStatus();
    RETURN_IF_ERROR(MakeFoldersOf(destination_->Root() + "/x"));
    std::error_code error;
    const auto space = std::filesystem::space(destination_->Root(), error);
    if (error ||
        space.available >= static_cast<uint64_t>(lacking) + kRoomToLeave) {
      return absl::OkStatus();
    }
    return absl::ResourceExhaustedError(absl::StrCat(
        options_.name.id, " needs ", FormatByteSize(lacking), " more, and ",
        destination_->Root(), " has ",
        FormatByteSize(static_cast<int64_t>(space.available)),
        " free: make room, or name another place (HF_HUB_CACHE, --into)"));
  }

  absl::Status Fetch(HubApi& api, int i, ProgressTeller& progress) {
    const RemoteFile& file = files_[i];
    OpenedFile lock;
    if (const std::string path = destination_->LockPath(file); !path.empty()) {
      ASSIGN_OR_RETURN(lock,
                       LockFile(path, hooks_, [&] { progress.SetWaits(i); }));
    }
    ASSIGN_OR_RETURN(const bool here, destination_->IsHere(file, hooks_));
    if (here) {
      progress.SetWasThere(i);
      return absl::OkStatus();
    }
    return Download(api, file, destination_->IncompletePath(file),
                    destination_->WholePath(file),
                    [&](int64_t bytes) { progress.SetDone(i, bytes); });
  }

  const PullOptions& options_;
  const Hooks& hooks_;
  std::vector<std::unique_ptr<HubApi>> apis_;  // one for each connection
  std::unique_ptr<Destination> destination_;
  std::vector<RemoteFile> files_;
};

absl::StatusOr<Pulled> AlreadyThere(const FinishedFolder& finished,
                                    const PullOptions& options) {
  if (finished.model != FullName(options.name) ||
      finished.include != options.include) {
    return absl::FailedPreconditionError(absl::StrCat(
        "'", options.into, "' holds ", finished.model,
        finished.model == FullName(options.name) ? " with other --include" : "",
        ": name another folder, or remove it"));
  }
  Pulled pulled{options.into, finished.commit, {}};
  for (const RemoteFile& file : finished.files) {
    pulled.files.push_back(
        {file.path, file.size, file.size, /*was_there=*/true});
  }
  return pulled;
}

absl::Status Offline(const absl::Status& not_here) {
  return absl::FailedPreconditionError(absl::StrCat(
      not_here.message(), ", and HF_HUB_OFFLINE is set: unset it to download"));
}

absl::StatusOr<Pulled> PullIntoFolder(const Environment& environment,
                                      const PullOptions& options,
                                      const Hooks& hooks,
                                      const OnProgress& on_progress) {
  // Once without the lock, which a read-only folder could not have.
  absl::StatusOr<FinishedFolder> finished = ReadFinishedFolder(options.into);
  if (finished.ok()) return AlreadyThere(*finished, options);
  if (environment.offline && absl::IsNotFound(finished.status())) {
    return Offline(finished.status());
  }
  ASSIGN_OR_RETURN(const OpenedFile lock,
                   LockFile(FolderLock(options.into), hooks, [] {}));
  finished = ReadFinishedFolder(options.into);
  if (finished.ok()) return AlreadyThere(*finished, options);
  if (!absl::IsNotFound(finished.status())) return finished.status();
  Puller puller(environment, options, hooks);
  ASSIGN_OR_RETURN(Pulled pulled, puller.Run(on_progress));
  RETURN_IF_ERROR(
      WriteFinishedFolder(options.into, {FullName(options.name), pulled.commit,
                                         options.include, puller.files()}));
  return pulled;
}

}  // namespace

absl::StatusOr<Pulled> Pull(const Environment& environment,
                            const PullOptions& options, const Hooks& hooks,
                            const OnProgress& on_progress) {
  if (!options.into.empty()) {
    return PullIntoFolder(environment, options, hooks, on_progress);
  }
  if (environment.offline) {
    const absl::StatusOr<std::string> snapshot =
        FindSnapshot(environment.cache, options.name);
    if (absl::IsNotFound(snapshot.status())) return Offline(snapshot.status());
    if (!snapshot.ok()) return snapshot.status();
    return Pulled{*snapshot, "", {}};
  }
  return Puller(environment, options, hooks).Run(on_progress);
}

}  // namespace ounce::hub
