#include "tests/testing/wall_clock.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace {

std::atomic<int64_t> own_offset{0};  // nanoseconds
// Ours, or the one in the file that a test writes to.
std::atomic<std::atomic<int64_t>*> offset{&own_offset};

__attribute__((constructor)) void MapFile() {
  const char* const path = getenv(ounce::testing::kWallClockFile);
  if (path == nullptr) return;
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  void* const mapped =
      mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (mapped == MAP_FAILED) abort();
  offset = static_cast<std::atomic<int64_t>*>(mapped);
}

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* now) {
  const long result = syscall(SYS_clock_gettime, clock, now);
  if (result == 0 && clock == CLOCK_REALTIME) {
    constexpr int64_t kSecond = 1'000'000'000;
    const int64_t nanoseconds =
        now->tv_sec * kSecond + now->tv_nsec + offset.load()->load();
    now->tv_sec = nanoseconds / kSecond;
    now->tv_nsec = nanoseconds % kSecond;
  }
  return static_cast<int>(result);
}

namespace ounce::testing {

void SetWallClockOffset(absl::Duration value) {
  own_offset = absl::ToInt64Nanoseconds(value);
}

}  // namespace ounce::testing
