#include "server/engine/background_thread.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "spdlog/spdlog.h"

namespace ounce::server {
namespace {

constexpr int kNiceLevels = 10;

}  // namespace

void RunInBackground(const std::function<void()>& work) {
  std::thread thread([&work] {
    pthread_setname_np(pthread_self(), "ounce-loader");
    const id_t tid = static_cast<id_t>(gettid());
    const int now = getpriority(PRIO_PROCESS, tid);
    if (setpriority(PRIO_PROCESS, tid, now + kNiceLevels) != 0) {
      spdlog::warn("a loading thread keeps its priority: {}",
                   std::strerror(errno));
    }
    work();
  });
  thread.join();
}

}  // namespace ounce::server
