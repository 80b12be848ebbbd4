#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/read_file.h"
#include "base/status_macros.h"
#include "hub/destination.h"
#include "hub/digest.h"
#include "hub/json_fields.h"

namespace ounce::hub {
namespace {

constexpr size_t kMaxFinishedBytes = 16 << 20;

std::string WorkFolder(const std::string& folder) {
  return folder + "/.ounce_pull";
}

std::string FinishedFile(const std::string& folder) {
  return WorkFolder(folder) + "/finished.json";
}

class FolderDestination final : public Destination {
 public:
  explicit FolderDestination(const std::string& folder) : folder_(folder) {}

  std::string Folder(const std::string&) const override { return folder_; }
  std::string Root() const override { return folder_; }
  std::string IncompletePath(const RemoteFile& file) const override {
    return absl::StrCat(WorkFolder(folder_), "/", file.path, ".",
                        file.etag.substr(0, 16), ".incomplete");
  }
  std::string WholePath(const RemoteFile& file) const override {
    return absl::StrCat(folder_, "/", file.path);
  }
  // The folder is locked as a whole.
  std::string LockPath(const RemoteFile&) const override { return ""; }

  // A file of this name may be of another revision, or of the user's own.
  absl::StatusOr<bool> IsHere(const RemoteFile& file,
                              const Hooks& hooks) const override {
    return HasDigest(WholePath(file), file.etag, file.size, hooks);
  }

  absl::Status Finish(const std::string&,
                      const std::vector<RemoteFile>&) const override {
    return absl::OkStatus();
  }

 private:
  const std::string folder_;
};

}  // namespace

std::unique_ptr<Destination> IntoFolder(const std::string& folder) {
  return std::make_unique<FolderDestination>(folder);
}

absl::StatusOr<FinishedFolder> ReadFinishedFolder(const std::string& folder) {
  const std::string path = FinishedFile(folder);
  const absl::Status none = absl::NotFoundError(
      absl::StrCat("'", folder, "' is no folder that a pull has finished"));
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return none;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFinishedBytes));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto model = TextIn(json, "model"), commit = TextIn(json, "commit");
  const auto* const include = ListIn(json, "include");
  const auto* const files = ListIn(json, "files");
  if (!model || !commit || include == nullptr || files == nullptr) return none;
  FinishedFolder finished = {*model, *commit, {}, {}};
  for (const auto& pattern : *include) {
    if (!pattern.is_string()) return none;
    finished.include.push_back(pattern.get<std::string>());
  }
  for (const auto& file : *files) {
    const auto path_inside = TextIn(file, "path"), etag = TextIn(file, "etag");
    const auto bytes = WholeNumberIn(file, "bytes");
    if (!path_inside || !etag || !bytes) return none;
    finished.files.push_back({*path_inside, *etag, *bytes, ""});
    const auto size = std::filesystem::file_size(
        absl::StrCat(folder, "/", *path_inside), error);
    if (error || static_cast<int64_t>(size) != *bytes) return none;
  }
  return finished;
}

absl::Status WriteFinishedFolder(const std::string& folder,
                                 const FinishedFolder& finished) {
  nlohmann::ordered_json json = {{"model", finished.model},
                                 {"commit", finished.commit},
                                 {"include", finished.include},
                                 {"files", nlohmann::json::array()}};
  for (const RemoteFile& file : finished.files) {
    json["files"].push_back(nlohmann::ordered_json{
        {"path", file.path}, {"etag", file.etag}, {"bytes", file.size}});
  }
  return ReplaceFile(
      FinishedFile(folder),
      json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string FolderLock(const std::string& folder) {
  return WorkFolder(folder) + "/lock";
}

}  // namespace ounce::hub
