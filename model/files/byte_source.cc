#include "model/files/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace ounce::model {
namespace {

class FileSource : public ByteSource {
 public:
  FileSource(std::string path, int64_t size, int fd, Proceed proceed)
      : ByteSource(std::move(path), size, std::move(proceed)), fd_(fd) {}
  ~FileSource() override { close(fd_); }

 private:
  absl::Status ReadInside(int64_t offset, int64_t length,
                          void* out) const override {
    char* to = static_cast<char*>(out);
    while (length > 0) {
      const ssize_t got = pread(fd_, to, length, offset);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return absl::DataLossError(absl::StrCat(
            name(), ": cannot read at byte ", offset, ": ", strerror(errno)));
      }
      if (got == 0) {
        return absl::DataLossError(absl::StrCat(name(), ": ends at byte ",
                                                offset, ", but had ", size(),
                                                " bytes when it was opened"));
      }
      to += got;
      offset += got;
      length -= got;
    }
    return absl::OkStatus();
  }

  const int fd_;
};

class MemorySource : public ByteSource {
 public:
  MemorySource(std::string name, std::string_view bytes)
      : ByteSource(std::move(name), static_cast<int64_t>(bytes.size())),
        bytes_(bytes) {}

 private:
  absl::Status ReadInside(int64_t offset, int64_t length,
                          void* out) const override {
    std::memcpy(out, bytes_.data() + offset, length);
    return absl::OkStatus();
  }

  const std::string_view bytes_;
};

absl::Status OpenError(const std::string& path, int error) {
  const std::string message = absl::StrCat(path, ": ", strerror(error));
  switch (error) {
    case ENOENT: {
      // Of a link that leads nowhere the system says the same.
      struct stat info;
      if (lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode)) {
        return absl::InvalidArgumentError(absl::StrCat(
            path, ": the link leads nowhere; download the file again"));
      }
      return absl::NotFoundError(message);
    }
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
      return absl::PermissionDeniedError(message);
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::DataLossError(message);
  }
}

// What git leaves in a file's place where Git LFS is not installed: a text of
// some 130 bytes.
absl::Status CheckIsNoLfsPointer(const ByteSource& file) {
  constexpr std::string_view kFirstWords = "version https://git-lfs.github.com";
  constexpr int64_t kMaxPointerBytes = 1024;  // the format's own limit
  const auto length = static_cast<int64_t>(kFirstWords.size());
  if (file.size() < length || file.size() > kMaxPointerBytes) {
    return absl::OkStatus();
  }
  std::string head(kFirstWords.size(), '\0');
  RETURN_IF_ERROR(file.Read(0, length, head.data()));
  if (head != kFirstWords) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      file.name(),
      ": is a Git LFS pointer, not the file itself; fetch it with `git lfs "
      "pull`"));
}

}  // namespace

absl::Status ByteSource::Read(int64_t offset, int64_t length, void* out) const {
  if (offset < 0 || length < 0 || offset > size_ || length > size_ - offset) {
    return absl::InvalidArgumentError(
        absl::StrCat(name_, ": has ", size_, " bytes, too few to read ", length,
                     " at byte ", offset));
  }
  if (length == 0) return absl::OkStatus();
  return ReadInside(offset, length, out);
}

absl::StatusOr<std::unique_ptr<ByteSource>> OpenFile(const std::string& path,
                                                     Proceed proceed) {
  // Not blocking, for a named pipe would wait here for ever.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return OpenError(path, errno);
  }
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": ", S_ISDIR(info.st_mode) ? "is a folder" : "is not a file"));
  }
  posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);  // reads ahead twice as far
  auto file =
      std::make_unique<FileSource>(path, info.st_size, fd, std::move(proceed));
  RETURN_IF_ERROR(CheckIsNoLfsPointer(*file));
  return file;
}

std::unique_ptr<ByteSource> BytesInMemory(std::string name,
                                          std::string_view bytes) {
  return std::make_unique<MemorySource>(std::move(name), bytes);
}

std::string Quoted(std::string_view text) {
  constexpr size_t kMaxBytes = 120;
  const bool cut = text.size() > kMaxBytes;
  return absl::StrCat("'",
                      absl::CHexEscape(std::string(text.substr(0, kMaxBytes))),
                      cut ? "..." : "", "'");
}

}  // namespace ounce::model
