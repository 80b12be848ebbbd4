#include "hub/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace ounce::hub {
namespace {

constexpr size_t kMaxPathBytes = 1024;
constexpr size_t kMaxPartBytes = 200;  // temporary names are longer
constexpr absl::Duration kLockLook = absl::Milliseconds(200);

bool IsSafePart(std::string_view part) {
  constexpr std::string_view kMarks = "._-+=@,()[]{}#%~ ";
  return !part.empty() && part.size() <= kMaxPartBytes && part.front() != '.' &&
         part.front() != '-' &&
         std::all_of(part.begin(), part.end(), [&](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  kMarks.find(c) != std::string_view::npos;
         });
}

// Whether the path still leads to the open file: others may remove a lock's
// file when they are done.
bool IsAt(const std::string& path, int file) {
  struct stat named = {}, opened = {};
  return stat(path.c_str(), &named) == 0 && fstat(file, &opened) == 0 &&
         named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

// Has `make` make what comes to `path` under a name that nobody else has: a
// process's number would be that of another container's on the same volume too.
absl::Status Replace(
    const std::string& path,
    const std::function<absl::Status(const std::string&)>& make) {
  RETURN_IF_ERROR(MakeFoldersOf(path));
  uint64_t number = 0;
  if (getrandom(&number, sizeof(number), 0) != sizeof(number)) {
    return CannotWrite(path);
  }
  const std::string temporary =
      absl::StrCat(path, ".", absl::Hex(number, absl::kZeroPad16), ".new");
  absl::Status status = make(temporary);
  if (status.ok() && std::rename(temporary.c_str(), path.c_str()) != 0) {
    status = CannotWrite(path);
  }
  if (!status.ok()) std::remove(temporary.c_str());
  return status;
}

}  // namespace

OpenedFile::~OpenedFile() {
  if (file_ >= 0) close(file_);
}

absl::Status CannotWrite(const std::string& path) {
  const int error = errno;
  const std::string message =
      absl::StrCat("cannot write '", path, "': ", std::strerror(error));
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    case EROFS:
    case ENOTDIR:
    case EISDIR:
      return absl::FailedPreconditionError(message);
    default:
      return absl::DataLossError(message);
  }
}

absl::Status MakeFoldersOf(const std::string& path) {
  std::error_code error;
  const std::filesystem::path folder =
      std::filesystem::path(path).parent_path();
  std::filesystem::create_directories(folder, error);
  if (!error) return absl::OkStatus();
  errno = error.value();
  return CannotWrite(folder.string());
}

absl::Status WriteAll(int file, std::string_view bytes,
                      const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return CannotWrite(path);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status ReplaceFile(const std::string& path, std::string_view bytes) {
  return Replace(path, [&](const std::string& temporary) -> absl::Status {
    const OpenedFile file(
        open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (!file.ok()) return CannotWrite(temporary);
    RETURN_IF_ERROR(WriteAll(file.get(), bytes, temporary));
    if (fsync(file.get()) != 0) return CannotWrite(temporary);
    return absl::OkStatus();
  });
}

absl::Status ReplaceLink(const std::string& path, const std::string& target) {
  return Replace(path, [&](const std::string& temporary) {
    return symlink(target.c_str(), temporary.c_str()) == 0
               ? absl::OkStatus()
               : CannotWrite(temporary);
  });
}

bool IsSafePath(std::string_view path) {
  if (path.size() > kMaxPathBytes) return false;
  const std::vector<std::string> parts = absl::StrSplit(std::string(path), '/');
  return std::all_of(parts.begin(), parts.end(), IsSafePart);
}

absl::StatusOr<OpenedFile> LockFile(const std::string& path, const Hooks& hooks,
                                    const std::function<void()>& on_wait) {
  RETURN_IF_ERROR(MakeFoldersOf(path));
  bool told = false;
  while (true) {
    OpenedFile file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!file.ok()) return CannotWrite(path);
    if (flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
      if (IsAt(path, file.get())) return file;
      continue;
    }
    if (errno != EWOULDBLOCK && errno != EINTR) return CannotWrite(path);
    if (!told) on_wait();
    told = true;
    RETURN_IF_ERROR(hooks.Wait(kLockLook));
  }
}

}  // namespace ounce::hub
