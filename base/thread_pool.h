// The threads that kernels run on: a fixed team that spins briefly, then parks.
//
// Threads: one owner at a time calls ParallelFor (engines take turns by
//   `lease`); the caller works too, as worker 0.
#ifndef OUNCE_BASE_THREAD_POOL_H_
#define OUNCE_BASE_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/mutex.h"

namespace ounce {

class ThreadPool {
 public:
  // num_threads >= 1 counts the caller: num_threads - 1 threads are started.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls fn(task, worker) once for each task in [0, num_tasks), tasks handed
  // out in order as workers come free, worker in [0, num_threads()); returns
  // when all are done. `fn` must not throw, block or call ParallelFor. No
  // allocation. With one task or one thread everything runs on the caller.
  template <class Fn>
  void ParallelFor(int64_t num_tasks, Fn&& fn) {
    using F = std::remove_reference_t<Fn>;
    Run(num_tasks,
        [](void* context, int64_t task, int worker) {
          (*static_cast<F*>(context))(task, worker);
        },
        const_cast<std::remove_const_t<F>*>(&fn));
  }

  // Held by whoever runs a series of ParallelFor calls (an engine for a step).
  Mutex& lease() { return lease_; }

 private:
  using TaskFn = void (*)(void* context, int64_t task, int worker);
  void Run(int64_t num_tasks, TaskFn fn, void* context);
  void WorkerLoop(int worker);
  void WorkOn(int worker);

  const int num_threads_;
  Mutex lease_;

  // One round: published by bumping `round_` after the fields below it.
  alignas(64) std::atomic<uint32_t> round_{0};
  TaskFn fn_ = nullptr;
  void* context_ = nullptr;
  int64_t num_tasks_ = 0;
  alignas(64) std::atomic<int64_t> next_task_{0};
  alignas(64) std::atomic<int> busy_workers_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace ounce

#endif  // OUNCE_BASE_THREAD_POOL_H_
