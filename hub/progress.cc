#include "hub/progress.h"

namespace ounce::hub {

void ProgressTeller::AddFile(const std::string& path, int64_t bytes) {
  const MutexLock lock(&mu_);
  progress_.files.push_back({path, bytes});
  progress_.bytes += bytes;
}

void ProgressTeller::SetDone(int file, int64_t bytes) {
  const MutexLock lock(&mu_);
  SetDoneLocked(file, bytes);
}

void ProgressTeller::SetDoneLocked(int file, int64_t bytes) {
  FileProgress& changed = progress_.files[file];
  progress_.bytes_done += bytes - changed.bytes_done;
  changed.bytes_done = bytes;
  changed.waits = false;
  tell_(progress_);
}

void ProgressTeller::SetWaits(int file) {
  const MutexLock lock(&mu_);
  progress_.files[file].waits = true;
  tell_(progress_);
}

void ProgressTeller::SetWasThere(int file) {
  const MutexLock lock(&mu_);
  progress_.files[file].was_there = true;
  SetDoneLocked(file, progress_.files[file].bytes);
}

std::vector<FileProgress> ProgressTeller::files() {
  const MutexLock lock(&mu_);
  return progress_.files;
}

}  // namespace ounce::hub
