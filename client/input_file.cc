#include "client/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/byte_size.h"
#include "base/utf8.h"

namespace ounce::client {
namespace {

absl::Status TooLarge(const std::string& name, const InputKind& kind) {
  return absl::ResourceExhaustedError(
      absl::StrCat(name, ": is larger than ", FormatByteSize(kind.max_bytes),
                   ", the most that a server takes; ", kind.advice));
}

// What is known to be too large is not read.
bool IsLargerFile(int file, int64_t max_bytes) {
  struct stat facts = {};
  return fstat(file, &facts) == 0 && S_ISREG(facts.st_mode) &&
         facts.st_size > max_bytes;
}

absl::StatusOr<std::string> ReadAll(int file, const std::string& name,
                                    const InputKind& kind) {
  constexpr int64_t kChunk = 1 << 20;
  if (IsLargerFile(file, kind.max_bytes)) return TooLarge(name, kind);
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
                 ? absl::InvalidArgumentError(absl::StrCat(
                       name, ": is a folder, not a ", kind.what, " file"))
                 : absl::ErrnoToStatus(
                       errno, absl::StrCat("cannot read '", name, "'"));
    }
    bytes.resize(so_far + num_read);
    if (num_read == 0) return bytes;
    if (static_cast<int64_t>(bytes.size()) > kind.max_bytes) {
      return TooLarge(name, kind);
    }
  }
}

}  // namespace

std::string InputName(const std::string& path) {
  return path == "-" ? "stdin" : path;
}

std::string FileName(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

std::string TextName(const std::string& path) {
  constexpr size_t kMostBytes = 128;
  const std::string name = FileName(InputName(path));
  const bool is_taken =
      name.size() <= kMostBytes && ValidUtf8Prefix(name) == name.size() &&
      std::none_of(name.begin(), name.end(), absl::ascii_iscntrl);
  return is_taken ? name : "";
}

absl::StatusOr<std::string> ReadInput(const std::string& path,
                                      const InputKind& kind) {
  const std::string name = InputName(path);
  const int file =
      path == "-" ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot read '", name, "'"));
  }
  absl::StatusOr<std::string> bytes = ReadAll(file, name, kind);
  if (file != STDIN_FILENO) close(file);
  return bytes;
}

absl::StatusOr<std::string> ReadText(const std::string& path,
                                     const char* advice) {
  constexpr int64_t kMaxTextBytes = int64_t{4} << 20;
  return ReadInput(
      path, {.what = "text", .advice = advice, .max_bytes = kMaxTextBytes});
}

}  // namespace ounce::client
