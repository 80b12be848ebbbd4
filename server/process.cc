#include "server/process.h"

#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <random>

#include "absl/synchronization/mutex.h"
#include "base/standard_files.h"

namespace ounce::server {

void SetUpProcess() {
  TakeStandardFiles();
  // Few heaps, and large blocks outside of them.
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
  // An Abseil that was built without NDEBUG, as Debian's is, notes of every two
  // mutexes which was held when the other was taken. That memory never shrinks,
  // and each Lock() pays for it.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  rlimit files = {};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
}

int64_t MaxOpenFiles() {
  rlimit files = {};
  getrlimit(RLIMIT_NOFILE, &files);
  return static_cast<int64_t>(
      std::min<rlim_t>(files.rlim_cur, std::numeric_limits<int64_t>::max()));
}

uint64_t DrawSeed() {
  std::random_device device;  // 32 bits at a time
  return uint64_t{device()} << 32 | device();
}

}  // namespace ounce::server
