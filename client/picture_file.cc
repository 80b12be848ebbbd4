#include "client/picture_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/byte_size.h"

namespace ounce::client {
namespace {

absl::Status TooLarge(const std::string& name, int64_t max_bytes) {
  return absl::ResourceExhaustedError(absl::StrCat(
      name, ": is larger than ", FormatByteSize(max_bytes),
      ", the most that a server takes; models look at about a megapixel, so "
      "send it smaller or as a JPEG"));
}

// What is known to be too large is not read.
bool IsLargerFile(int file, int64_t max_bytes) {
  struct stat facts = {};
  return fstat(file, &facts) == 0 && S_ISREG(facts.st_mode) &&
         facts.st_size > max_bytes;
}

absl::StatusOr<std::string> ReadAll(int file, const std::string& name,
                                    int64_t max_bytes) {
  constexpr int64_t kChunk = 1 << 20;
  if (IsLargerFile(file, max_bytes)) return TooLarge(name, max_bytes);
  std::string bytes;
  while (true) {
    const size_t so_far = bytes.size();
    bytes.resize(so_far + kChunk);
    const ssize_t num_read = read(file, bytes.data() + so_far, kChunk);
    if (num_read < 0 && errno == EINTR) {
      bytes.resize(so_far);
      continue;
    }
    if (num_read < 0) {
      return errno == EISDIR
                 ? absl::InvalidArgumentError(
                       absl::StrCat(name, ": is a folder, not a picture file"))
                 : absl::ErrnoToStatus(
                       errno, absl::StrCat("cannot read '", name, "'"));
    }
    bytes.resize(so_far + num_read);
    if (num_read == 0) return bytes;
    if (static_cast<int64_t>(bytes.size()) > max_bytes) {
      return TooLarge(name, max_bytes);
    }
  }
}

}  // namespace

std::string PictureName(const std::string& path) {
  return path == "-" ? "stdin" : path;
}

absl::StatusOr<std::string> ReadPicture(const std::string& path,
                                        int64_t max_bytes) {
  const std::string name = PictureName(path);
  const int file =
      path == "-" ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot read '", name, "'"));
  }
  absl::StatusOr<std::string> bytes = ReadAll(file, name, max_bytes);
  if (file != STDIN_FILENO) close(file);
  if (bytes.ok() && bytes->empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": is empty, not a JPEG, PNG or WebP file"));
  }
  return bytes;
}

}  // namespace ounce::client
