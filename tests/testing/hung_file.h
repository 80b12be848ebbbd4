// A file on a file system that does not answer: whoever opens it waits.
#ifndef OUNCE_TESTS_TESTING_HUNG_FILE_H_
#define OUNCE_TESTS_TESTING_HUNG_FILE_H_

#include <fcntl.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include <memory>
#include <string>

namespace ounce::testing {

// Ownership: the file answers again when this is gone.
class HungFile {
 public:
  // Null where the system does not let this process hold up others.
  static std::unique_ptr<HungFile> Create(const std::string& path) {
    const int fd = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK,
                                 O_RDONLY | O_CLOEXEC);
    if (fd < 0) return nullptr;
    std::unique_ptr<HungFile> file(new HungFile(fd));
    if (fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD,
                      path.c_str()) != 0) {
      return nullptr;
    }
    return file;
  }
  // Whoever waits may go on.
  ~HungFile() { close(fd_); }
  HungFile(const HungFile&) = delete;
  HungFile& operator=(const HungFile&) = delete;

 private:
  explicit HungFile(int fd) : fd_(fd) {}

  const int fd_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_HUNG_FILE_H_
