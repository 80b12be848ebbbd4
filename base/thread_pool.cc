#include "base/thread_pool.h"

#include <utility>

#include "base/check.h"
#include "base/interlude.h"
#include "base/thread.h"

namespace ounce {
namespace {

// About 50 microseconds on current CPUs: longer than the gaps between the
// products of one decode step, shorter than what a busy host would notice.
constexpr int kSpins = 1000;

// Of this thread's calls of ParallelFor; null: none.
thread_local Interlude* own_interlude = nullptr;

bool OthersAreWanted() {
  return own_interlude != nullptr && own_interlude->Wanted();
}

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns once `value` is no longer `old`.
void AwaitChange(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (value.load(std::memory_order_acquire) != old) return;
    Pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ScopedInterlude::ScopedInterlude(Interlude& interlude) {
  OUNCE_CHECK(own_interlude == nullptr, "a thread has one interlude at a time");
  own_interlude = &interlude;
}

ScopedInterlude::~ScopedInterlude() { own_interlude = nullptr; }

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads) {
  OUNCE_CHECK(num_threads >= 1, "the caller is a worker too");
  for (int worker = 1; worker < num_threads; ++worker) {
    absl::StatusOr<std::thread> thread =
        StartThread("ounce-worker", [this, worker] { WorkerLoop(worker); });
    if (!thread.ok()) {
      status_ = thread.status();
      return;
    }
    threads_.push_back(*std::move(thread));
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  round_.fetch_add(1);
  round_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Run(int64_t num_tasks, TaskFn fn, void* context) {
  if (idle_) return;
  OUNCE_CHECK(num_tasks <= UINT32_MAX, "tasks are counted in 32 bits");
  // The last `left` tasks are to be done; in one round, unless others come in
  // between.
  for (int64_t left = num_tasks; left > 0;) {
    if (OthersAreWanted()) own_interlude->Run();
    if (left == 1 || threads_.empty()) {
      fn(context, num_tasks - left--, 0);
      continue;
    }
    fn_ = fn;
    context_ = context;
    num_tasks_ = num_tasks;
    done_tasks_.store(0, std::memory_order_relaxed);
    const uint32_t round = round_.load(std::memory_order_relaxed) + 1;
    const uint64_t none_open = uint64_t{round} << 32;
    open_tasks_.store(none_open | static_cast<uint64_t>(left),
                      std::memory_order_release);
    round_.store(round, std::memory_order_release);
    round_.notify_all();  // no system call unless somebody is parked

    uint32_t done = static_cast<uint32_t>(WorkOn(0));
    // What is left then, nobody can begin any more.
    const auto open = static_cast<uint32_t>(
        open_tasks_.exchange(none_open, std::memory_order_acq_rel));
    const uint32_t begun = static_cast<uint32_t>(left) - open;
    done += done_tasks_.fetch_add(done, std::memory_order_acq_rel);
    while (done != begun) {
      AwaitChange(done_tasks_, done);
      done = done_tasks_.load(std::memory_order_acquire);
    }
    left = open;
  }
}

int64_t ThreadPool::WorkOn(int worker) {
  int64_t count = 0;
  uint64_t open = open_tasks_.load(std::memory_order_acquire);
  while (static_cast<uint32_t>(open) != 0) {
    if (!open_tasks_.compare_exchange_weak(open, open - 1,
                                           std::memory_order_acq_rel,
                                           std::memory_order_acquire)) {
      continue;
    }
    fn_(context_, num_tasks_ - static_cast<uint32_t>(open), worker);
    ++count;
    if (OthersAreWanted()) break;
    open = open_tasks_.load(std::memory_order_acquire);
  }
  return count;
}

void ThreadPool::WorkerLoop(int worker) {
  uint32_t seen = 0;
  for (;;) {
    AwaitChange(round_, seen);
    seen = round_.load(std::memory_order_acquire);
    if (stopping_.load()) return;
    if (const int64_t count = WorkOn(worker); count > 0) {
      done_tasks_.fetch_add(static_cast<uint32_t>(count),
                            std::memory_order_acq_rel);
      done_tasks_.notify_one();
    }
  }
}

}  // namespace ounce
