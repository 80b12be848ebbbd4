#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "hub/cache_layout.h"
#include "hub/destination.h"

namespace ounce::hub {
namespace {

class CacheDestination final : public Destination {
 public:
  CacheDestination(const std::string& cache, const ModelName& name)
      : cache_(cache),
        name_(name),
        repository_(absl::StrCat(cache, "/", RepositoryFolder(name))) {}

  std::string Folder(const std::string& commit) const override {
    return SnapshotFolder(cache_, name_, commit);
  }
  std::string Root() const override { return cache_; }
  std::string IncompletePath(const RemoteFile& file) const override {
    return absl::StrCat(WholePath(file), ".incomplete");
  }
  std::string WholePath(const RemoteFile& file) const override {
    return absl::StrCat(repository_, "/blobs/", file.etag);
  }
  std::string LockPath(const RemoteFile& file) const override {
    return absl::StrCat(cache_, "/.locks/", RepositoryFolder(name_), "/",
                        file.etag, ".lock");
  }

  // Whoever wrote a blob has held it against its name.
  absl::StatusOr<bool> IsHere(const RemoteFile& file,
                              const Hooks&) const override {
    std::error_code error;
    const auto size = std::filesystem::file_size(WholePath(file), error);
    return !error && static_cast<int64_t>(size) == file.size;
  }

  absl::Status Finish(const std::string& commit,
                      const std::vector<RemoteFile>& files) const override {
    for (const RemoteFile& file : files) {
      RETURN_IF_ERROR(Link(commit, file));
    }
    if (IsCommit(name_.revision)) return absl::OkStatus();
    return ReplaceFile(RefFile(cache_, name_), commit);
  }

 private:
  // snapshots/COMMIT/a/b -> ../../../blobs/ETAG; so a cache may be moved.
  absl::Status Link(const std::string& commit, const RemoteFile& file) const {
    const std::string link = absl::StrCat(Folder(commit), "/", file.path);
    std::string target = "../../";
    for (const char c : file.path) {
      if (c == '/') target += "../";
    }
    absl::StrAppend(&target, "blobs/", file.etag);
    return ReplaceLink(link, target);
  }

  const std::string cache_;
  const ModelName name_;
  const std::string repository_;
};

}  // namespace

std::unique_ptr<Destination> IntoCache(const std::string& cache,
                                       const ModelName& name) {
  return std::make_unique<CacheDestination>(cache, name);
}

}  // namespace ounce::hub
