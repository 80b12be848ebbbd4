// A few threads for what takes too long for gRPC's own.
//
// Threads: any thread may call TryRun; jobs run on the pool's threads. The
//   destructor runs what was accepted to its end, then joins.
#ifndef OUNCE_SERVER_SERVICE_WORKER_POOL_H_
#define OUNCE_SERVER_SERVICE_WORKER_POOL_H_

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace ounce::server {

class WorkerPool {
 public:
  // `max_jobs`: running and waiting together.
  WorkerPool(int num_threads, int max_jobs);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // False, and `job` is not run, when max_jobs are at work already.
  bool TryRun(std::function<void()> job);

 private:
  void Work();

  const int max_jobs_;
  Mutex mu_;
  CondVar wake_;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mu_);
  int num_jobs_ ABSL_GUARDED_BY(mu_) = 0;  // running and waiting
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_WORKER_POOL_H_
