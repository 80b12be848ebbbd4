#include "server/service/worker_pool.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>
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
  const absl::Status placed = Guarded([&] {
    MutexLock lock(&mu_);
    Place(flow, &job);
    return absl::OkStatus();
  });
  wake_.Signal();
  if (job != nullptr) job(placed.ok() ? options_.full : placed);
}

void WorkerPool::Place(const std::string& flow, Job* job) {
  const auto own = flows_.find(flow);
  const size_t num_own = own == flows_.end() ? 0 : own->second.size();
  if (num_own >= static_cast<size_t>(options_.max_waiting_per_flow)) return;
  std::list<Job>* largest = nullptr;
  if (num_waiting_ >= options_.max_waiting) {
    for (auto& [name, jobs] : flows_) {
      if (largest == nullptr || jobs.size() > largest->size()) largest = &jobs;
    }
    // It must stay at least as large as the flow that grows.
    if (largest == nullptr || largest->size() <= num_own + 1) return;
  }
  std::list<Job> place(1);
  std::list<std::string> turn;
  if (num_own == 0) turn.push_back(flow);
  std::list<Job>& jobs = flows_[flow];
  // Nothing throws from here on.
  place.front() = std::exchange(*job, nullptr);
  jobs.splice(jobs.end(), place);
  turns_.splice(turns_.end(), turn);
  ++num_waiting_;
  if (largest == nullptr) return;
  *job = std::move(largest->back());
  largest->pop_back();
  --num_waiting_;
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
    Job job;
    {
      MutexLock lock(&mu_);
      while (num_waiting_ == 0 && !stopping_) wake_.Wait(&mu_);
      if (num_waiting_ == 0) return;
      const auto flow = flows_.find(turns_.front());
      job = std::move(flow->second.front());
      flow->second.pop_front();
      --num_waiting_;
      if (flow->second.empty()) {
        flows_.erase(flow);
        turns_.pop_front();
      } else {
        turns_.splice(turns_.end(), turns_, turns_.begin());
      }
    }
    job(absl::OkStatus());
  }
}

}  // namespace ounce::server
