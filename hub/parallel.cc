#include "hub/parallel.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/guard.h"
#include "base/mutex.h"
#include "base/thread.h"

namespace ounce::hub {
namespace {

class Items {
 public:
  explicit Items(int count) : count_(count) {}

  // -1: no more.
  int Take() {
    const MutexLock lock(&mu_);
    return status_.ok() && next_ < count_ ? next_++ : -1;
  }
  void Tell(const absl::Status& status) {
    const MutexLock lock(&mu_);
    status_.Update(status);
  }
  absl::Status status() {
    const MutexLock lock(&mu_);
    return status_;
  }

 private:
  const int count_;
  Mutex mu_;
  int next_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::Status InParallel(
    int num_workers, int num_items,
    const std::function<absl::Status(int worker, int item)>& work) {
  Items items(num_items);
  const auto run = [&](int worker) {
    for (int item = items.Take(); item >= 0; item = items.Take()) {
      items.Tell(Guarded([&] { return work(worker, item); }));
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < std::min(num_workers, num_items); ++i) {
    absl::StatusOr<std::thread> thread =
        StartThread("ounce-hub", [&run, i] { run(i); });
    if (!thread.ok()) break;  // fewer do it too
    threads.push_back(*std::move(thread));
  }
  run(0);
  for (std::thread& thread : threads) thread.join();
  return items.status();
}

}  // namespace ounce::hub
