// One file of the hub, brought onto the disk.
#ifndef OUNCE_HUB_DOWNLOAD_H_
#define OUNCE_HUB_DOWNLOAD_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "hub/hub_api.h"

namespace ounce::hub {

// Writes `file` into `incomplete`, going on behind what that holds, and renames
// it to `destination` once its size and hash are what they should be; what has
// another hash is thrown away and fetched again, once. `on_bytes` is told how
// many bytes are there, now and then.
// Errors: HubApi's; kDataLoss for bytes that are not the file's; those of
// writing (files.h).
absl::Status Download(HubApi& api, const RemoteFile& file,
                      const std::string& incomplete,
                      const std::string& destination,
                      const std::function<void(int64_t)>& on_bytes);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_DOWNLOAD_H_
