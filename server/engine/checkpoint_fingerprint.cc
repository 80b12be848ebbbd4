#include "server/engine/checkpoint_fingerprint.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"

namespace ounce::server {

CheckpointFingerprint FingerprintOf(const model::Checkpoint& checkpoint) {
  namespace fs = std::filesystem;
  CheckpointFingerprint result;
  result.config = absl::StrCat(checkpoint.config().dump(), "\n",
                               checkpoint.generation_config().dump());
  for (const auto& [name, info] : checkpoint.tensors()) {
    absl::StrAppend(&result.tensors, name, " ",
                    std::string(quant::Name(info.dtype)), " [",
                    absl::StrJoin(info.shape, ","), "]\n");
  }
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator it(checkpoint.folder(), error), end;
       !error && it != end; it.increment(error)) {
    const fs::path& path = it->path();
    if (path.extension() != ".safetensors" && path.extension() != ".bin") {
      continue;
    }
    std::error_code no_size, no_time;
    const auto size = fs::file_size(path, no_size);
    const auto time = fs::last_write_time(path, no_time);
    if (no_size || no_time) continue;
    files.push_back(absl::StrCat(path.filename().string(), " ", size, " ",
                                 time.time_since_epoch().count()));
  }
  std::sort(files.begin(), files.end());
  result.files = absl::StrJoin(files, "\n");
  return result;
}

absl::Status CheckUnchanged(const CheckpointFingerprint& loaded,
                            const CheckpointFingerprint& now,
                            const std::string& folder) {
  std::string changed;
  if (loaded.config != now.config) {
    changed = "config.json or generation_config.json";
  } else if (loaded.tensors != now.tensors) {
    changed = "names, dtypes or shapes of its tensors";
  } else if (loaded.files != now.files) {
    changed = "size or time of a weight file";
  } else {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the checkpoint ", folder,
                   " is no longer the one that was loaded (changed: ", changed,
                   "); load it as a model of its own"));
}

}  // namespace ounce::server
