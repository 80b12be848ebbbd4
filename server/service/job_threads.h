// Jobs that may take minutes, each on a thread of its own, so that one which
// hangs in a file system holds nobody else's place.
//
// Threads: any thread may call Start. The destructor waits for all jobs.
#ifndef OUNCE_SERVER_SERVICE_JOB_THREADS_H_
#define OUNCE_SERVER_SERVICE_JOB_THREADS_H_

#include <functional>
#include <list>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "base/mutex.h"

namespace ounce::server {

class JobThreads {
 public:
  // At most `max_jobs` at a time; `what` they are, for the refusal: "loads".
  JobThreads(int max_jobs, std::string what);
  ~JobThreads();
  JobThreads(const JobThreads&) = delete;
  JobThreads& operator=(const JobThreads&) = delete;

  // `last_act` follows when the job, with all that it held, is gone and its
  // place is free: there it is told that it is over, so that whoever has heard
  // it finds a place. Neither must throw.
  // Errors: kResourceExhausted with RetryInfo when too many run, or the system
  //   gives no thread; neither is run then.
  absl::Status Start(std::function<void()> job,
                     std::function<void()> last_act = nullptr);

 private:
  // Joins the threads that have done all.
  void Clear();

  const int max_jobs_;
  const std::string what_;
  Mutex mu_;
  CondVar none_;
  int num_jobs_ ABSL_GUARDED_BY(mu_) = 0;  // that hold a place
  std::list<std::thread> running_ ABSL_GUARDED_BY(mu_);
  std::list<std::thread> over_ ABSL_GUARDED_BY(mu_);  // or about to be
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_JOB_THREADS_H_
