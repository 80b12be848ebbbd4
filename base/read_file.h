// Small files that a setting or a flag names.
#ifndef OUNCE_BASE_READ_FILE_H_
#define OUNCE_BASE_READ_FILE_H_

#include <cstddef>
#include <limits>
#include <string>

#include "absl/status/statusor.h"

namespace ounce {

// What is in the file, or its first `most` bytes.
// Errors: kInvalidArgument: "cannot read 'x.pem': Is a directory".
absl::StatusOr<std::string> ReadFile(
    const std::string& path, size_t most = std::numeric_limits<size_t>::max());

}  // namespace ounce

#endif  // OUNCE_BASE_READ_FILE_H_
