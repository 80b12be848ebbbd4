#include "server/frontend/worker_pool.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "base/guard.h"

namespace ounce::server {

WorkerPool::WorkerPool(Options options) : options_(std::move(options)) {
  for (int i = 0; i < options_.num_threads; ++i) {
    threads_.emplace_back([this] { Work(); });
  }
}

WorkerPool::~WorkerPool() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  wake_.SignalAll();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::Run(const std::string& flow, Job job) {
  const absl::Status asked = Guarded([&] {
    auto newcomer = std::make_unique<Waiting>(Waiting{.flow = flow});
    Waiting& place = *newcomer;
    MutexLock lock(&mu_);
    place.id = next_id_++;
    if (queue_.SizeOf(flow) >= options_.max_waiting_per_flow ||
        !queue_.PushWithin(options_.max_waiting, newcomer)) {
      return options_.full;
    }
    // Nothing throws from here on.
    place.job = std::exchange(job, nullptr);
    if (newcomer == nullptr) return absl::OkStatus();
    job = std::move(newcomer->job);
    return options_.full;
  });
  wake_.Signal();
  if (job != nullptr) job(asked);
}

void WorkerPool::Work() {
  pthread_setname_np(pthread_self(), options_.thread_name.c_str());
  if (options_.nice_levels != 0) {
    const id_t tid = static_cast<id_t>(gettid());
    // Best effort: it may not be allowed.
    (void)setpriority(PRIO_PROCESS, tid,
                      getpriority(PRIO_PROCESS, tid) + options_.nice_levels);
  }
  while (true) {
    std::unique_ptr<Waiting> next;
    {
      MutexLock lock(&mu_);
      while (queue_.empty() && !stopping_) wake_.Wait(&mu_);
      next = queue_.TakeNext();
    }
    if (next == nullptr) return;
    next->job(absl::OkStatus());
  }
}

}  // namespace ounce::server
