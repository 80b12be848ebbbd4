// The files of a folder that is brought to the hub.
#ifndef OUNCE_HUB_LOCAL_FILES_H_
#define OUNCE_HUB_LOCAL_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ounce::hub {

struct LocalFile {
  std::string path;  // in the folder, with '/' between its parts
  std::string full;  // for opening it
  int64_t size = 0;  // bytes
};

// In order of their paths; links to files are files, links to folders and
// whatever begins with a dot are left out.
// Errors: kInvalidArgument for no folder, one without files, with more than
// 10,000 of them, or with names that are not safe (files.h).
absl::StatusOr<std::vector<LocalFile>> FilesToPush(const std::string& folder);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_LOCAL_FILES_H_
