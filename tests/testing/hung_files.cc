// To preload: a file system that hangs. Reads of files in a folder `hung` never
// return.
#include <dlfcn.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstring>
#include <string>

namespace {

bool Hangs(int fd) {
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  char path[4096] = {};
  return readlink(link.c_str(), path, sizeof(path) - 1) > 0 &&
         std::strstr(path, "/hung/") != nullptr;
}

ssize_t Read(const char* name, int fd, void* to, size_t count, off_t offset) {
  using Function = ssize_t (*)(int, void*, size_t, off_t);
  while (Hangs(fd)) pause();
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name))(fd, to, count,
                                                            offset);
}

}  // namespace

extern "C" ssize_t pread(int fd, void* to, size_t count, off_t offset) {
  return Read("pread", fd, to, count, offset);
}
extern "C" ssize_t pread64(int fd, void* to, size_t count, off_t offset) {
  return Read("pread64", fd, to, count, offset);
}
