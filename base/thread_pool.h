// The threads that kernels run on: a fixed team that spins briefly, then parks.
//
// A round of tasks never waits for a thread that has not begun one: if the
// others sleep, or the machine gives them no CPU, the caller does the work.
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

#include "absl/status/status.h"
#include "base/mutex.h"

namespace ounce {

class ThreadPool {
 public:
  // num_threads >= 1 counts the caller: num_threads - 1 threads are started,
  // fewer where the system gives no more, and `status` then says why. The pool
  // works with fewer, only slower.
  explicit ThreadPool(int num_threads);
  // A pool of that size on paper: it starts no thread, and ParallelFor runs no
  // task. For a pass that only counts what a real one would take
  // (quant/scratch.h).
  struct Idle {
    int num_threads;
  };
  explicit ThreadPool(Idle idle)
      : num_threads_(idle.num_threads), idle_(true) {}
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }
  // kResourceExhausted when threads could not be started.
  const absl::Status& status() const { return status_; }

  // Calls fn(task, worker) once for each task in [0, num_tasks), tasks handed
  // out in order as workers come free, worker in [0, num_threads()); returns
  // when all are done. `fn` must not throw, block or call ParallelFor. No
  // allocation. With one task or one thread everything runs on the caller.
  // Requires num_tasks < 2^32. Others may come in between (base/interlude.h).
  template <class Fn>
  void ParallelFor(int64_t num_tasks, Fn&& fn) {
    using F = std::remove_reference_t<Fn>;
    Run(
        num_tasks,
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
  // Runs tasks until none is left, or others are wanted; returns how many.
  int64_t WorkOn(int worker);

  const int num_threads_;
  const bool idle_ = false;
  absl::Status status_;  // set by the constructor
  Mutex lease_;

  // One round. Written by the caller before it publishes `open_tasks_`, read by
  // whoever has claimed a task; the round lasts until all of those are done.
  TaskFn fn_ = nullptr;
  void* context_ = nullptr;
  int64_t num_tasks_ = 0;
  // Number of the round in the upper half, tasks not yet claimed in the lower:
  // so a claim made too late, for a round that is over, cannot succeed.
  alignas(64) std::atomic<uint64_t> open_tasks_{0};
  alignas(64) std::atomic<uint32_t> done_tasks_{0};
  // What idle workers wait on: bumped for each round and at the end.
  alignas(64) std::atomic<uint32_t> round_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace ounce

#endif  // OUNCE_BASE_THREAD_POOL_H_
