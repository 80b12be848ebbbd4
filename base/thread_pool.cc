#include "base/thread_pool.h"

#include "base/check.h"

namespace ounce {
namespace {

// About 20 to 50 microseconds on current CPUs: longer than the gaps between
// the matmuls of one decode step, shorter than what a busy host would notice.
constexpr int kSpins = 2000;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads) {
  OUNCE_CHECK(num_threads >= 1, "the caller is a worker too");
  for (int worker = 1; worker < num_threads; ++worker) {
    threads_.emplace_back([this, worker] { WorkerLoop(worker); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  round_.fetch_add(1);
  round_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Run(int64_t num_tasks, TaskFn fn, void* context) {
  if (num_tasks <= 1 || threads_.empty()) {
    for (int64_t task = 0; task < num_tasks; ++task) fn(context, task, 0);
    return;
  }
  fn_ = fn;
  context_ = context;
  num_tasks_ = num_tasks;
  next_task_.store(0, std::memory_order_relaxed);
  busy_workers_.store(static_cast<int>(threads_.size()),
                      std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  WorkOn(0);
  for (int spin = 0;; ++spin) {
    const int busy = busy_workers_.load(std::memory_order_acquire);
    if (busy == 0) return;
    if (spin < kSpins) {
      Pause();
    } else {
      busy_workers_.wait(busy, std::memory_order_acquire);
    }
  }
}

void ThreadPool::WorkOn(int worker) {
  for (;;) {
    const int64_t task = next_task_.fetch_add(1, std::memory_order_relaxed);
    if (task >= num_tasks_) return;
    fn_(context_, task, worker);
  }
}

void ThreadPool::WorkerLoop(int worker) {
  uint32_t seen = 0;
  for (;;) {
    for (int spin = 0; round_.load(std::memory_order_acquire) == seen; ++spin) {
      if (spin < kSpins) {
        Pause();
      } else {
        round_.wait(seen, std::memory_order_acquire);
      }
    }
    // Rounds are not skipped: the caller waits for every worker.
    ++seen;
    if (stopping_.load()) return;
    WorkOn(worker);
    if (busy_workers_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      busy_workers_.notify_one();
    }
  }
}

}  // namespace ounce
