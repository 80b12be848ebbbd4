#include "model/checkpoint/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

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

}  // namespace

absl::Status ByteSource::Read(int64_t offset, int64_t length, void* out) const {
  if (offset < 0 || length < 0 || offset > size_ || length > size_ - offset) {
    return absl::InvalidArgumentError(
        absl::StrCat(name_, ": ", length, " bytes at byte ", offset,
                     " wanted, the file has ", size_));
  }
  if (length == 0) return absl::OkStatus();
  return ReadInside(offset, length, out);
}

absl::StatusOr<std::unique_ptr<ByteSource>> OpenFile(const std::string& path,
                                                     Proceed proceed) {
  // Not blocking, for a named pipe would wait here for ever.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const std::string message = absl::StrCat(path, ": ", strerror(errno));
    if (errno == ENOENT || errno == ENOTDIR) {
      return absl::NotFoundError(message);
    }
    if (errno == EACCES) return absl::PermissionDeniedError(message);
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
      return absl::ResourceExhaustedError(message);
    }
    return absl::DataLossError(message);
  }
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not a regular file"));
  }
  posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);  // reads ahead twice as far
  return std::make_unique<FileSource>(path, info.st_size, fd,
                                      std::move(proceed));
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
