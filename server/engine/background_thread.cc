#include "server/engine/background_thread.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "base/guard.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/thread.h"
#include "spdlog/spdlog.h"

namespace ounce::server {
namespace {

constexpr int kNiceLevels = 10;

void LowerPriority() {
  const id_t tid = static_cast<id_t>(gettid());
  const int now = getpriority(PRIO_PROCESS, tid);
  if (setpriority(PRIO_PROCESS, tid, now + kNiceLevels) != 0) {
    spdlog::warn("a loading thread keeps its priority: {}",
                 std::strerror(errno));
  }
}

// What the two threads share; the last of them to leave frees it.
class Shared final : public Waiter {
 public:
  // Of the thread that works.

  absl::Status CheckProceed() override {
    MutexLock lock(&mu_);
    return verdict_;
  }

  absl::Status Ask(const std::function<absl::Status()>& question) override {
    MutexLock lock(&mu_);
    if (!verdict_.ok()) return verdict_;
    question_ = &question;
    answer_.reset();
    to_waiter_.Signal();
    while (!answer_.has_value()) to_worker_.Wait(&mu_);
    return *answer_;
  }

  void Finish(absl::Status result) {
    MutexLock lock(&mu_);
    result_ = std::move(result);
    to_waiter_.Signal();
  }

  // Of the thread that waits.
  absl::Status Await(const std::function<absl::Status()>& proceed,
                     const BackgroundOptions& options, bool* left_behind) {
    absl::Duration waited;  // since it is no longer wanted
    while (true) {
      const absl::Status wanted = Guarded(proceed);
      MutexLock lock(&mu_);
      if (verdict_.ok()) verdict_ = wanted;
      if (!result_.has_value() && question_ == nullptr) {
        to_waiter_.WaitFor(&mu_, options.interval);
        if (!verdict_.ok()) waited += options.interval;
      }
      if (question_ != nullptr) Answer();
      if (result_.has_value()) return verdict_.ok() ? *result_ : verdict_;
      if (waited >= options.patience) {
        *left_behind = true;
        return verdict_;
      }
    }
  }

 private:
  // The worker waits meanwhile, so nothing else happens.
  void Answer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const std::function<absl::Status()>& question = *question_;
    absl::Status answer = verdict_;
    if (answer.ok()) {
      mu_.Unlock();
      answer = Guarded(question);
      mu_.Lock();
    }
    question_ = nullptr;
    answer_ = std::move(answer);
    to_worker_.Signal();
  }

  Mutex mu_;
  CondVar to_waiter_;
  CondVar to_worker_;
  absl::Status verdict_ ABSL_GUARDED_BY(mu_);
  const std::function<absl::Status()>* question_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::optional<absl::Status> answer_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> result_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::Status RunInBackground(std::function<absl::Status(Waiter&)> work,
                             const std::function<absl::Status()>& proceed,
                             const BackgroundOptions& options) {
  const auto shared = std::make_shared<Shared>();
  ASSIGN_OR_RETURN(
      std::thread thread,
      StartThread("ounce-loader", [shared, work = std::move(work)]() mutable {
        LowerPriority();
        absl::Status status = Guarded([&] { return work(*shared); });
        work = nullptr;  // what it holds is free before it is over
        shared->Finish(std::move(status));
      }));
  bool left_behind = false;
  absl::Status status = shared->Await(proceed, options, &left_behind);
  if (left_behind) {
    spdlog::warn(
        "a loading thread does not end: its file system does not answer; it is "
        "left behind");
    thread.detach();
  } else {
    thread.join();
  }
  return status;
}

}  // namespace ounce::server
