#include "server/engine/checkpoint_fingerprint.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

absl::Status CannotRead(const std::string& path, const std::error_code& error) {
  const std::string message = absl::StrCat(path, ": ", error.message());
  return error == std::errc::too_many_files_open ||
                 error == std::errc::too_many_files_open_in_system ||
                 error == std::errc::not_enough_memory
             ? absl::ResourceExhaustedError(message)
             : absl::DataLossError(message);
}

std::string TimeText(const timespec& time) {
  return absl::StrCat(time.tv_sec, ".", time.tv_nsec);
}

}  // namespace

absl::StatusOr<CheckpointFingerprint> FingerprintOf(
    const model::Checkpoint& checkpoint) {
  CheckpointFingerprint result;
  result.config = absl::StrCat(checkpoint.config().dump(), "\n",
                               checkpoint.generation_config().dump());
  for (const auto& [name, info] : checkpoint.tensors()) {
    absl::StrAppend(&result.tensors, name, " ",
                    std::string(quant::Name(info.dtype)), " ",
                    info.coded == nullptr ? "" : info.coded->spec.ToString(),
                    "[", absl::StrJoin(info.shape, ","), "]\n");
  }
  std::vector<std::string> files;
  for (const std::string& path : checkpoint.files()) {
    struct stat info;
    if (stat(path.c_str(), &info) != 0) {
      return CannotRead(path, std::error_code(errno, std::generic_category()));
    }
    files.push_back(absl::StrCat(path, " ", info.st_size, " ", info.st_dev, ":",
                                 info.st_ino, " ", TimeText(info.st_mtim), " ",
                                 TimeText(info.st_ctim)));
  }
  std::sort(files.begin(), files.end());
  result.files = absl::StrJoin(files, "\n");
  return result;
}

absl::Status ChangedError(const std::string& folder,
                          absl::string_view changed) {
  return Refusal(
      Reason::kCheckpointChanged,
      absl::StrCat("the checkpoint ", folder,
                   " is no longer the one that was loaded (changed: ", changed,
                   "); load it under a name of its own"));
}

absl::Status CheckUnchanged(const CheckpointFingerprint& loaded,
                            const CheckpointFingerprint& now,
                            const std::string& folder) {
  if (loaded.config != now.config) {
    return ChangedError(folder, "config.json or generation_config.json");
  }
  if (loaded.tensors != now.tensors) {
    return ChangedError(folder, "names, dtypes or shapes of its tensors");
  }
  if (loaded.files != now.files) {
    return ChangedError(folder, "size, inode or time of a weight file");
  }
  return absl::OkStatus();
}

}  // namespace ounce::server
