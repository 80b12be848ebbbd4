#include "base/thread.h"

#include <pthread.h>
#include <sys/resource.h>

#include <cstdint>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/mutex.h"

namespace ounce {
namespace {

constexpr size_t kMaxNameBytes = 15;  // the kernel's

// The number in a file; nothing where there is none, or it is "max".
std::vector<int64_t> NumberIn(const std::string& path) {
  std::ifstream in(path);
  int64_t number = 0;
  if (in >> number) return {number};
  return {};
}

// pids.max of this process's cgroup and of those above it, the smallest: as
// mounted at the usual places, v2 and v1.
std::vector<int64_t> CgroupThreads() {
  std::ifstream in("/proc/self/cgroup");
  std::vector<int64_t> smallest;
  for (std::string line; std::getline(in, line);) {
    std::string root;
    if (absl::StartsWith(line, "0::")) root = "/sys/fs/cgroup";
    if (absl::StrContains(line, ":pids:")) root = "/sys/fs/cgroup/pids";
    if (root.empty()) continue;
    std::string path = line.substr(line.rfind(':') + 1);
    while (true) {
      for (const int64_t limit :
           NumberIn(absl::StrCat(root, path, "/pids.max"))) {
        if (smallest.empty() || limit < smallest[0]) smallest = {limit};
      }
      if (path.empty()) break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return smallest;
}

// "this user may have 6 (ulimit -u), this cgroup 20 (pids.max)".
std::string Limits() {
  std::vector<std::string> limits;
  rlimit user = {};
  if (getrlimit(RLIMIT_NPROC, &user) == 0 && user.rlim_cur != RLIM_INFINITY) {
    limits.push_back(
        absl::StrCat("this user may have ", user.rlim_cur, " (ulimit -u)"));
  }
  for (const int64_t most : CgroupThreads()) {
    limits.push_back(
        absl::StrCat("this container may have ", most, " (pids.max)"));
  }
  for (const int64_t most : NumberIn("/proc/sys/kernel/threads-max")) {
    limits.push_back(
        absl::StrCat("this system may have ", most, " (kernel.threads-max)"));
  }
  rlimit memory = {};
  if (getrlimit(RLIMIT_AS, &memory) == 0 && memory.rlim_cur != RLIM_INFINITY) {
    limits.push_back(absl::StrCat("its stack must fit the ", memory.rlim_cur,
                                  " bytes of address space (ulimit -v)"));
  }
  return absl::StrJoin(limits, ", ");
}

}  // namespace

absl::StatusOr<std::thread> StartThread(const std::string& name,
                                        std::function<void()> work) {
  OUNCE_CHECK(name.size() <= kMaxNameBytes, "the kernel cuts longer names");
  try {
    return std::thread([name, work = std::move(work)] {
      pthread_setname_np(pthread_self(), name.c_str());
      work();
    });
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no thread for '", name, "': ", error.code().message(),
                     "; raise the limit of threads: ", Limits()));
  }
}

absl::Status CheckThreads(int count) {
  Mutex mu;
  CondVar changed;
  bool done = false;
  std::vector<std::thread> threads;
  absl::Status status;
  while (static_cast<int>(threads.size()) < count) {
    absl::StatusOr<std::thread> thread = StartThread("ounce-probe", [&] {
      MutexLock lock(&mu);
      while (!done) changed.Wait(&mu);
    });
    if (!thread.ok()) {
      status = absl::ResourceExhaustedError(
          absl::StrCat(count, " threads are needed, only ", threads.size(),
                       " could be started; raise the limit: ", Limits()));
      break;
    }
    threads.push_back(*std::move(thread));
  }
  {
    MutexLock lock(&mu);
    done = true;
  }
  changed.SignalAll();
  for (std::thread& thread : threads) thread.join();
  return status;
}

}  // namespace ounce
