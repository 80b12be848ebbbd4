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
// 10,000 of them, or with names that are not safe (files.h), and for a file
// whose size can't be read.
absl::StatusOr<std::vector<LocalFile>> FilesToPush(const std::string& folder);

// All bytes of a file that had `git_hash` (digest.h) when it was `file.size`
// long; reads no more than that and one.
// Errors: kAborted for another size or hash; kInvalidArgument where it can't be
// read.
absl::StatusOr<std::string> ReadUnchanged(const LocalFile& file,
                                          const std::string& git_hash);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_LOCAL_FILES_H_
