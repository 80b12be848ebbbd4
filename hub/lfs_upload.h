// Large files to the hub's storage, by Git LFS's batch API and the hub's form
// of it for files that go up in parts.
#ifndef OUNCE_HUB_LFS_UPLOAD_H_
#define OUNCE_HUB_LFS_UPLOAD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hub/hub_api.h"

namespace ounce::hub {

struct LargeFile {
  std::string path;  // on this machine
  std::string hash;  // SHA-256
  int64_t size = 0;  // above 0
};

// What the storage wants done with each file, by its hash; empty for what it
// has already.
// Errors: HubApi::AskPatiently's, Refused's; kDataLoss for an answer that is
// none of the hub's; kFailedPrecondition for a file that it does not take;
// kUnimplemented where the hub takes them by Xet alone.
absl::StatusOr<std::map<std::string, nlohmann::json>> AskForUploads(
    HubApi& api, const std::vector<LargeFile>& files);

// Does what `actions` says, then has the storage verify it. `on_bytes` is told
// how many bytes are there.
// Errors: the same; kDataLoss for a file that can't be read.
absl::Status UploadLarge(HubApi& api, const LargeFile& file,
                         const nlohmann::json& actions,
                         const std::function<void(int64_t)>& on_bytes);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_LFS_UPLOAD_H_
