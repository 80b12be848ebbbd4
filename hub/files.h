// Folders and open files of downloads.
#ifndef OUNCE_HUB_FILES_H_
#define OUNCE_HUB_FILES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hub/hooks.h"

namespace ounce::hub {

// A descriptor, closed with it.
class OpenedFile {
 public:
  explicit OpenedFile(int file = -1) : file_(file) {}
  OpenedFile(OpenedFile&& other) noexcept
      : file_(std::exchange(other.file_, -1)) {}
  OpenedFile& operator=(OpenedFile&& other) noexcept {
    std::swap(file_, other.file_);
    return *this;
  }
  ~OpenedFile();

  bool ok() const { return file_ >= 0; }
  int get() const { return file_; }

 private:
  int file_;
};

// "cannot write 'FILE': WORDS" by errno: kResourceExhausted where there is no
// room, kPermissionDenied, kFailedPrecondition for a read-only file system,
// else kDataLoss.
absl::Status CannotWrite(const std::string& path);

// Makes the folders that the file lies in.
absl::Status MakeFoldersOf(const std::string& path);

// All of `bytes`, at the file's place.
absl::Status WriteAll(int file, std::string_view bytes,
                      const std::string& path);

// Each under a temporary name of its own first, so that others see what was
// there or this, however many do it at once; a file's bytes are on the disk
// before it has its name. Makes the folders too.
absl::Status ReplaceFile(const std::string& path, std::string_view bytes);
absl::Status ReplaceLink(const std::string& path, const std::string& target);

// A path inside a repository that may become one here: no odd characters, no
// part that is hidden or leads out, and not too long.
bool IsSafePath(std::string_view path);

// Holds the file locked (flock, as Python's filelock does), which it makes,
// until the returned one is closed. While another has it, waits by the hooks,
// after telling `on_wait`.
// Errors: those of the hooks and of CannotWrite.
absl::StatusOr<OpenedFile> LockFile(const std::string& path, const Hooks& hooks,
                                    const std::function<void()>& on_wait);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_FILES_H_
