#include "server/engine/save_root.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "model/files/byte_source.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

namespace fs = std::filesystem;

constexpr char kField[] = "folder";
// File systems take 255 bytes, and what is being written has a longer name.
constexpr size_t kMaxNameBytes = 200;

bool IsBelow(const fs::path& path, const fs::path& folder) {
  return path != folder &&
         std::mismatch(folder.begin(), folder.end(), path.begin(), path.end())
                 .first == folder.end();
}

bool IsControl(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

// Before it is looked for. What is wrong is told without the path, which is not
// for the log.
absl::Status CheckPath(const std::string& folder) {
  if (folder.empty()) {
    return FieldError(kField, "is empty; must be a path below --save_root");
  }
  if (std::any_of(folder.begin(), folder.end(), IsControl)) {
    return FieldError(kField, "must have no control characters");
  }
  for (const fs::path& part : fs::path(folder)) {
    if (part != "." && part != "..") continue;
    return FieldError(kField, "must have neither '.' nor '..'");
  }
  return absl::OkStatus();
}

// Of a path from the root on.
absl::Status CheckNames(const fs::path& path) {
  for (const fs::path& part : path) {
    const std::string name = part.string();
    if (name.starts_with('.')) {
      return FieldError(kField, "must have no name that begins with '.'");
    }
    if (name.size() > kMaxNameBytes) {
      return FieldError(
          kField, absl::StrCat("must have names of at most ", kMaxNameBytes,
                               " bytes, one has ", name.size()));
    }
  }
  return absl::OkStatus();
}

absl::Status CannotMake(const fs::path& path, int error) {
  const std::string message =
      absl::StrCat("cannot make the folder ", path.string(), ": ",
                   std::generic_category().message(error));
  return Refusal(error == ENOSPC || error == EDQUOT
                     ? Reason::kDiskFull
                     : Reason::kFolderNotWritable,
                 message);
}

absl::Status Exists(const fs::path& path, absl::string_view why) {
  return AboutField(Refusal(Reason::kFolderExists,
                            absl::StrCat("folder: ", path.string(), " ", why,
                                         "; name another one, or remove it")),
                    kField);
}

}  // namespace

// Shared with the places, which outlive a root whose work was left behind.
struct SaveRoot::Taken {
  Mutex mu;
  std::set<fs::path> places ABSL_GUARDED_BY(mu);
  // Folders above them, made here, that may still have to go.
  std::set<fs::path> made ABSL_GUARDED_BY(mu);

  // The folders above `place` that are missing, below `root`.
  absl::Status MakeAbove(const fs::path& place, const fs::path& root)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    std::vector<fs::path> missing;
    for (fs::path above = place.parent_path(); IsBelow(above, root);
         above = above.parent_path()) {
      missing.push_back(above);
    }
    for (auto above = missing.rbegin(); above != missing.rend(); ++above) {
      constexpr mode_t kAsUmaskSays = 0777;
      if (mkdir(above->c_str(), kAsUmaskSays) == 0) {
        made.insert(*above);
        continue;
      }
      const int error = errno;
      std::error_code ignored;
      const bool is_there =
          error == EEXIST && fs::symlink_status(*above, ignored).type() ==
                                 fs::file_type::directory;
      if (!is_there) return CannotMake(*above, error);
    }
    return absl::OkStatus();
  }

  // Of those that were made above `place`, what is empty and above no other.
  void RemoveAbove(const fs::path& place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    for (fs::path above = place.parent_path(); above.has_relative_path();
         above = above.parent_path()) {
      if (!made.contains(above)) continue;
      const bool in_use = std::any_of(
          places.begin(), places.end(),
          [&](const fs::path& other) { return IsBelow(other, above); });
      if (in_use) return;
      rmdir(above.c_str());
      made.erase(above);
    }
  }
};

class SaveRoot::TakenPlace final : public Place {
 public:
  TakenPlace(std::shared_ptr<Taken> taken, fs::path path)
      : taken_(std::move(taken)), path_(std::move(path)), text_(path_) {}
  ~TakenPlace() override {
    MutexLock lock(&taken_->mu);
    taken_->places.erase(path_);
    taken_->RemoveAbove(path_);
  }
  const std::string& path() const override { return text_; }

 private:
  const std::shared_ptr<Taken> taken_;
  const fs::path path_;
  const std::string text_;
};

SaveRoot::SaveRoot(std::string folder)
    : folder_(std::move(folder)), taken_(std::make_shared<Taken>()) {}

absl::StatusOr<std::shared_ptr<const SaveRoot::Place>> SaveRoot::Take(
    const std::string& folder) const {
  if (folder_.empty()) {
    return Refusal(Reason::kSavingOff,
                   "the server saves nothing: it was started without "
                   "--save_root; start it with --save_root DIR, below which "
                   "models are saved");
  }
  RETURN_IF_ERROR(CheckPath(folder));
  std::error_code error;
  const fs::path root = fs::canonical(folder_, error);
  if (error) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the folder of --save_root, ", folder_, ": ", error.message()));
  }
  fs::path path = root / folder;  // `folder` alone, if it is absolute
  if (path.filename().empty()) path = path.parent_path();
  if (!fs::path(folder).is_absolute()) {
    RETURN_IF_ERROR(CheckNames(path.lexically_relative(root)));
  }
  path = fs::weakly_canonical(path, error);
  if (error || !IsBelow(path, root)) {
    return AboutField(Refusal(Reason::kPathNotAllowed,
                              absl::StrCat("folder: ", model::Quoted(folder),
                                           " is not below --save_root ",
                                           folder_, "; name one that is")),
                      kField);
  }
  RETURN_IF_ERROR(CheckNames(path.lexically_relative(root)));
  constexpr size_t kFilesBelow = 300;  // their names, and a hidden folder's
  if (path.native().size() + kFilesBelow > PATH_MAX) {
    return FieldError(kField,
                      absl::StrCat("is too long: files below ", root.string(),
                                   " have paths of at "
                                   "most ",
                                   PATH_MAX, " bytes"));
  }
  for (fs::path above = path.parent_path(); IsBelow(above, root);
       above = above.parent_path()) {
    std::error_code unknown;
    if (fs::exists(above / "config.json", unknown) ||
        fs::exists(above / "model.gguf", unknown)) {
      return FieldError(
          kField, absl::StrCat("lies in a model's folder, ", above.string(),
                               "; name one beside it"));
    }
  }
  // A link to nowhere is there too.
  const fs::file_type type = fs::symlink_status(path, error).type();
  if (type == fs::file_type::none) return CannotMake(path, error.value());
  if (type != fs::file_type::not_found) {
    return Exists(path, "is there already");
  }
  MutexLock lock(&taken_->mu);
  for (fs::path one = path; IsBelow(one, root); one = one.parent_path()) {
    if (taken_->places.contains(one)) {
      return AboutField(
          Refusal(Reason::kFolderExists,
                  absl::StrCat("folder: ", one.string(),
                               " is being written by another call; name "
                               "another one")),
          kField);
    }
  }
  const absl::Status made = taken_->MakeAbove(path, root);
  if (!made.ok()) {
    taken_->RemoveAbove(path);
    return made;
  }
  taken_->places.insert(path);
  return std::make_shared<const TakenPlace>(taken_, path);
}

}  // namespace ounce::server
