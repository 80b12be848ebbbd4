// A few threads for what takes too long for gRPC's own, shared fairly.
//
//   Run(flow, job) --> [ a queue per flow, bounded ] --> threads, flow by flow
//
// A flow is whatever belongs to one peer. Flows take turns and give way to each
// other as peers do in a FairQueue (server/scheduler/fair_queue.h).
//
// Threads: any thread may call Run. A job is called exactly once: with OK on a
//   thread of the pool, or with why it is not done, on a thread that calls Run;
//   it must not throw. The destructor has what was accepted done, then joins.
#ifndef OUNCE_SERVER_FRONTEND_WORKER_POOL_H_
#define OUNCE_SERVER_FRONTEND_WORKER_POOL_H_

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "server/scheduler/fair_queue.h"

namespace ounce::server {

class WorkerPool {
 public:
  using Job = absl::AnyInvocable<void(const absl::Status&)>;

  struct Options {
    int num_threads = 1;
    int max_waiting = 64;           // jobs that no thread has begun
    int max_waiting_per_flow = 64;  // the same of one flow
    int nice_levels = 0;            // less priority than the thread that starts
    std::string thread_name = "ounce-worker";  // at most 15 characters
    absl::Status full = {};  // what a job without a place is called with
  };

  explicit WorkerPool(Options options);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void Run(const std::string& flow, Job job);

 private:
  struct Waiting {
    const std::string& peer() const { return flow; }
    int64_t id = 0;
    std::string flow;
    Job job = nullptr;
  };

  void Work();

  const Options options_;
  Mutex mu_;
  CondVar wake_;
  FairQueue<Waiting> queue_ ABSL_GUARDED_BY(mu_);
  int64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_FRONTEND_WORKER_POOL_H_
