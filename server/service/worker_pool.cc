#include "server/service/worker_pool.h"

#include <utility>

namespace ounce::server {

WorkerPool::WorkerPool(int num_threads, int max_jobs) : max_jobs_(max_jobs) {
  for (int i = 0; i < num_threads; ++i) {
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

bool WorkerPool::TryRun(std::function<void()> job) {
  {
    MutexLock lock(&mu_);
    if (stopping_ || num_jobs_ >= max_jobs_) return false;
    ++num_jobs_;
    waiting_.push_back(std::move(job));
  }
  wake_.Signal();
  return true;
}

void WorkerPool::Work() {
  while (true) {
    std::function<void()> job;
    {
      MutexLock lock(&mu_);
      while (waiting_.empty() && !stopping_) wake_.Wait(&mu_);
      if (waiting_.empty()) return;
      job = std::move(waiting_.front());
      waiting_.pop_front();
    }
    job();
    job = nullptr;  // what it holds goes before its place is free
    MutexLock lock(&mu_);
    --num_jobs_;
  }
}

}  // namespace ounce::server
