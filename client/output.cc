#include "client/output.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "client/proxy.h"

namespace ounce::client {
namespace {

absl::Status NotWritten(absl::string_view where, int error) {
  return absl::DataLossError(
      absl::StrCat("cannot write to ", where, ": ", std::strerror(error)));
}

absl::Status NotWrittenToStdout(int error) {
  // A stream that had failed before sets no errno.
  return NotWritten("stdout", error == 0 ? EIO : error);
}

}  // namespace

absl::Status Print(const std::string& text) {
  errno = 0;
  std::cout << text;
  return FlushOutput();
}

absl::Status FlushOutput() {
  std::cout << std::flush;
  if (!std::cout) return NotWrittenToStdout(errno);
  return absl::OkStatus();
}

absl::Status CloseOutput() {
  RETURN_IF_ERROR(FlushOutput());
  // Closed by whoever started it: fine, if nothing was to be written.
  if (close(STDOUT_FILENO) != 0 && errno != EBADF) {
    return NotWrittenToStdout(errno);
  }
  return absl::OkStatus();
}

absl::Status WriteFile(const std::string& path, const std::string& bytes) {
  const std::string where = absl::StrCat("'", path, "'");
  const int file =
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) return NotWritten(where, errno);
  size_t num_written = 0;
  while (num_written < bytes.size()) {
    const ssize_t written =
        write(file, bytes.data() + num_written, bytes.size() - num_written);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int error = errno;
      close(file);
      return NotWritten(where, error);
    }
    num_written += written;
  }
  if (close(file) != 0) return NotWritten(where, errno);
  return absl::OkStatus();
}

bool IsTerminal(int file) {
  return isatty(file) && EnvironmentVariable("TERM") != "dumb";
}

int TerminalWidth(int file) {
  winsize size = {};
  if (ioctl(file, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

std::string Cut(const std::string& line, int width) {
  absl::string_view left = line;
  for (int i = 0; i < width && !left.empty(); ++i) {
    left.remove_prefix(FirstUtf8Sequence({left.data(), left.size()}).length);
  }
  return line.substr(0, line.size() - left.size());
}

void ShowOnTerminal(const std::string& line) {
  // The last column stays free: a cursor behind it would be on the next line.
  std::cerr << "\r\033[K" << Cut(line, TerminalWidth(STDERR_FILENO) - 1)
            << std::flush;
}

bool OutputsMeet() {
  struct stat out = {}, err = {};
  if (fstat(STDOUT_FILENO, &out) != 0 || fstat(STDERR_FILENO, &err) != 0) {
    return false;
  }
  if (out.st_dev == err.st_dev && out.st_ino == err.st_ino) return true;
  return isatty(STDERR_FILENO) && !S_ISREG(out.st_mode);
}

}  // namespace ounce::client
