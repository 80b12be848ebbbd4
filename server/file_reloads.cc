#include "server/file_reloads.h"

#include <sys/stat.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/thread.h"

namespace ounce::server {
namespace {

// What differs when one of the files was replaced or written to.
std::string StampOf(const std::vector<std::string>& paths) {
  std::string stamp;
  for (const std::string& path : paths) {
    struct stat file {};
    if (!path.empty() && stat(path.c_str(), &file) == 0) {
      absl::StrAppend(&stamp, file.st_dev, ",", file.st_ino, ",", file.st_size,
                      ",", file.st_mtim.tv_sec, ",", file.st_mtim.tv_nsec, ",",
                      file.st_ctim.tv_sec, ",", file.st_ctim.tv_nsec);
    }
    stamp += ";";
  }
  return stamp;
}

class Reloads final : public FileReloads {
 public:
  Reloads(std::vector<ReloadedFiles> files, absl::Duration interval)
      : interval_(interval) {
    for (ReloadedFiles& each : files) {
      const std::string stamp = StampOf(each.paths);
      watched_.push_back({std::move(each), stamp, stamp});
    }
  }

  absl::Status Begin() {
    ASSIGN_OR_RETURN(thread_, StartThread("ounce-files", [this] { Loop(); }));
    return absl::OkStatus();
  }

  ~Reloads() override {
    {
      MutexLock lock(&mu_);
      stopping_ = true;
    }
    stop_.Signal();
    if (thread_.joinable()) thread_.join();
  }

 private:
  struct Watched {
    ReloadedFiles files;
    std::string read;  // their stamp when they were read
    std::string seen;  // the last one
  };

  void Loop() {
    while (true) {
      {
        MutexLock lock(&mu_);
        if (!stopping_) stop_.WaitFor(&mu_, interval_);
        if (stopping_) return;
      }
      for (Watched& watched : watched_) Look(watched);
    }
  }

  static void Look(Watched& watched) {
    std::string now = StampOf(watched.files.paths);
    if (now != watched.read && now == watched.seen) {
      watched.read = now;
      watched.files.on_reload(watched.files.reload());
    }
    watched.seen = std::move(now);
  }

  const absl::Duration interval_;
  std::vector<Watched> watched_;  // the thread's
  Mutex mu_;
  CondVar stop_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FileReloads>> FileReloads::Start(
    std::vector<ReloadedFiles> files, absl::Duration interval) {
  auto reloads = std::make_unique<Reloads>(std::move(files), interval);
  RETURN_IF_ERROR(reloads->Begin());
  return reloads;
}

}  // namespace ounce::server
