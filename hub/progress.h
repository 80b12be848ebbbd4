// How far files are that go to the hub or come from it.
#ifndef OUNCE_HUB_PROGRESS_H_
#define OUNCE_HUB_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/mutex.h"

namespace ounce::hub {

struct FileProgress {
  std::string path;
  int64_t bytes = 0;
  int64_t bytes_done = 0;
  bool was_there = false;  // nothing of it had to be moved
  bool waits = false;      // another process has it in hand
};

// Of all files that are wanted; those that nobody has begun have no bytes done.
struct Progress {
  std::vector<FileProgress> files;
  int64_t bytes = 0;
  int64_t bytes_done = 0;
};

using OnProgress = std::function<void(const Progress&)>;

// Keeps it and tells of each change, from one thread at a time.
//
// Threads: any may call anything.
class ProgressTeller {
 public:
  // `tell` must outlive it.
  explicit ProgressTeller(const OnProgress& tell) : tell_(tell) {}

  // Before anything else; the files have the numbers 0, 1, ...
  void AddFile(const std::string& path, int64_t bytes);
  void SetDone(int file, int64_t bytes);
  void SetWaits(int file);
  void SetWasThere(int file);

  std::vector<FileProgress> files();

 private:
  void SetDoneLocked(int file, int64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const OnProgress& tell_;
  Mutex mu_;
  Progress progress_ ABSL_GUARDED_BY(mu_);
};

}  // namespace ounce::hub

#endif  // OUNCE_HUB_PROGRESS_H_
