#include "model/saver/new_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "base/byte_size.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::model {
namespace {

// For the file system itself, which has a use for some of what is free.
constexpr int64_t kSpareBytes = int64_t{4} << 20;

constexpr char kPayload[] = "ounce.new_folder";
constexpr std::string_view kFullDisk = "full disk";

absl::Status Marked(absl::Status status, std::string_view as = "") {
  status.SetPayload(kPayload,
                    absl::Cord(absl::string_view(as.data(), as.size())));
  return status;
}

absl::Status FailedToRead(std::string_view what, const std::string& path,
                          int error) {
  const std::string text =
      StrCat("cannot ", what, " ", path, ": ", std::strerror(error));
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(text);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(text);
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(text);
    default:
      return absl::DataLossError(text);
  }
}

absl::Status Failed(std::string_view what, const std::string& path, int error) {
  const bool is_full = error == ENOSPC || error == EDQUOT;
  return Marked(FailedToRead(what, path, error), is_full ? kFullDisk : "");
}

// Puts names in a folder on the disk.
absl::Status SyncFolder(const std::string& path) {
  const int folder = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return Failed("open", path, errno);
  const int failed = fsync(folder) == 0 ? 0 : errno;
  close(folder);
  return failed == 0 ? absl::OkStatus() : Failed("write", path, failed);
}

absl::Status CheckSpace(const std::string& parent, int64_t bytes) {
  struct statvfs disk = {};
  if (statvfs(parent.c_str(), &disk) != 0) {
    return Failed("look at", parent, errno);
  }
  const auto available =
      static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
  if (available >= bytes && available - bytes >= kSpareBytes) {
    return absl::OkStatus();
  }
  return Marked(absl::ResourceExhaustedError(
                    StrCat(parent, ": the disk has ", FormatByteSize(available),
                           " left, and saving takes ", FormatByteSize(bytes),
                           " and ", FormatByteSize(kSpareBytes),
                           " to spare; make some, or save in fewer bits")),
                kFullDisk);
}

// Not over what has that name.
int RenameToNew(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(),
                RENAME_NOREPLACE) == 0) {
    return 0;
  }
  if (errno != EINVAL) return errno;
  // A file system without that.
  struct stat there = {};
  if (lstat(to.c_str(), &there) == 0) return EEXIST;
  return rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

absl::Status AlreadyThere(const std::string& path) {
  return Marked(absl::AlreadyExistsError(
      StrCat(path, " is there already; remove it, or name another folder")));
}

// A new folder beside others, for whom the umask says.
absl::StatusOr<std::string> MakeHidden(const std::string& parent) {
  std::random_device random;
  while (true) {
    std::string path = StrCat(parent, "/.ounce-saving-", random());
    if (mkdir(path.c_str(), 0777) == 0) return path;
    if (errno != EEXIST) return Failed("make a folder in", parent, errno);
  }
}

}  // namespace

bool IsOfNewFolder(const absl::Status& status) {
  return status.GetPayload(kPayload).has_value();
}

bool IsOfFullDisk(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayload);
  return payload.has_value() && *payload == absl::string_view(kFullDisk.data());
}

NewFile::NewFile(int descriptor, std::string path)
    : descriptor_(descriptor), path_(std::move(path)) {}

NewFile::~NewFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status NewFile::WriteAt(int64_t offset, const void* data, int64_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written =
        pwrite(descriptor_, from, static_cast<size_t>(bytes), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Failed("write", path_, errno);
    from += written;
    offset += written;
    bytes -= written;
  }
  return absl::OkStatus();
}

absl::Status NewFile::Finish() {
  if (fsync(descriptor_) != 0) return Failed("write", path_, errno);
  if (close(std::exchange(descriptor_, -1)) != 0) {
    return Failed("close", path_, errno);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<NewFolder>> NewFolder::Make(
    const std::string& path, int64_t bytes) {
  const std::filesystem::path given(path);
  struct stat there = {};
  if (lstat(path.c_str(), &there) == 0) return AlreadyThere(path);
  if (errno != ENOENT) return Failed("look at", path, errno);
  if (given.filename().empty()) {
    return absl::InvalidArgumentError(
        StrCat("'", path, "' must end with the new folder's name"));
  }
  const std::string parent =
      given.has_parent_path() ? given.parent_path().string() : std::string(".");
  RETURN_IF_ERROR(CheckSpace(parent, bytes));
  ASSIGN_OR_RETURN(std::string hidden, MakeHidden(parent));
  return std::unique_ptr<NewFolder>(
      new NewFolder(path, parent, std::move(hidden)));
}

NewFolder::NewFolder(std::string path, std::string parent, std::string hidden)
    : path_(std::move(path)),
      parent_(std::move(parent)),
      hidden_(std::move(hidden)) {}

NewFolder::~NewFolder() {
  if (is_finished_) return;
  std::error_code ignored;
  std::filesystem::remove_all(hidden_, ignored);
}

absl::StatusOr<std::unique_ptr<NewFile>> NewFolder::Create(
    const std::string& name, int64_t bytes) {
  const std::string path = StrCat(hidden_, "/", name);
  const std::filesystem::path above = std::filesystem::path(path).parent_path();
  if (above != hidden_) {
    std::error_code ignored;  // opening says it
    std::filesystem::create_directories(above, ignored);
    folders_.insert(above.string());
  }
  const int file =
      open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) return Failed("make", path, errno);
  auto made = std::make_unique<NewFile>(file, path);
  if (bytes == 0) return made;
  const int failed = posix_fallocate(file, 0, bytes);
  if (failed != 0 && failed != EOPNOTSUPP && failed != EINVAL) {
    return Failed(StrCat("set ", bytes, " bytes aside for"), path, failed);
  }
  return made;
}

absl::Status NewFolder::Write(const std::string& name,
                              std::string_view content) {
  const auto bytes = static_cast<int64_t>(content.size());
  ASSIGN_OR_RETURN(const auto file, Create(name, bytes));
  RETURN_IF_ERROR(file->WriteAt(0, content.data(), bytes));
  return file->Finish();
}

absl::Status NewFolder::Copy(const std::string& name, const std::string& from,
                             const std::function<absl::Status()>& proceed) {
  const int source = open(from.c_str(), O_RDONLY | O_CLOEXEC);
  if (source < 0) return FailedToRead("read", from, errno);
  const NewFile closes(source, from);
  struct stat there = {};
  if (fstat(source, &there) != 0) return FailedToRead("read", from, errno);
  ASSIGN_OR_RETURN(const auto file, Create(name, there.st_size));
  std::vector<char> piece(size_t{4} << 20);
  for (int64_t done = 0; done < there.st_size;) {
    if (proceed) RETURN_IF_ERROR(proceed());
    const ssize_t bytes = pread(source, piece.data(), piece.size(), done);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return FailedToRead("read", from, errno);
    if (bytes == 0) {
      return absl::DataLossError(
          StrCat(from, " became shorter while it was read"));
    }
    RETURN_IF_ERROR(file->WriteAt(done, piece.data(), bytes));
    done += bytes;
  }
  return file->Finish();
}

absl::Status NewFolder::Finish() {
  for (const std::string& folder : folders_) {
    RETURN_IF_ERROR(SyncFolder(folder));
  }
  RETURN_IF_ERROR(SyncFolder(hidden_));
  const int failed = RenameToNew(hidden_, path_);
  if (failed == EEXIST || failed == ENOTEMPTY) return AlreadyThere(path_);
  if (failed != 0) return Failed("name", path_, failed);
  is_finished_ = true;
  const absl::Status on_disk = SyncFolder(parent_);
  if (!on_disk.ok()) {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  return on_disk;
}

}  // namespace ounce::model
