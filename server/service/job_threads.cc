#include "server/service/job_threads.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/guard.h"
#include "base/thread.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {

JobThreads::JobThreads(int max_jobs, std::string what)
    : max_jobs_(max_jobs), what_(std::move(what)) {}

JobThreads::~JobThreads() {
  {
    MutexLock lock(&mu_);
    while (!running_.empty()) none_.Wait(&mu_);
  }
  Clear();
}

void JobThreads::Clear() {
  std::list<std::thread> over;
  {
    MutexLock lock(&mu_);
    over.swap(over_);
  }
  for (std::thread& thread : over) thread.join();
}

absl::Status JobThreads::Start(std::function<void()> job,
                               std::function<void()> last_act) {
  Clear();
  MutexLock lock(&mu_);
  if (num_jobs_ >= max_jobs_) {
    return Refusal(Reason::kTooManyJobs,
                   absl::StrCat("already at the limit of ", max_jobs_, " ",
                                what_, " at the same time"));
  }
  running_.emplace_back();
  const auto place = std::prev(running_.end());
  absl::StatusOr<std::thread> thread;
  const absl::Status started = Guarded([&] {
    thread =
        StartThread("ounce-admin", [this, place, job = std::move(job),
                                    last_act = std::move(last_act)]() mutable {
          job();
          job = nullptr;  // what it holds goes before its place is free
          {
            MutexLock free(&mu_);
            --num_jobs_;
          }
          if (last_act != nullptr) last_act();
          last_act = nullptr;
          MutexLock done(&mu_);
          over_.splice(over_.end(), running_, place);
          if (running_.empty()) none_.SignalAll();
        });
    return thread.status();
  });
  if (!started.ok()) {
    running_.erase(place);
    return WithReason(started, Reason::kTooManyJobs);
  }
  *place = *std::move(thread);
  ++num_jobs_;
  return absl::OkStatus();
}

}  // namespace ounce::server
