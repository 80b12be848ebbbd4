// Numbers of bytes as people write and read them.
#ifndef OUNCE_BASE_BYTE_SIZE_H_
#define OUNCE_BASE_BYTE_SIZE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace ounce {

// "123", "64KiB", "512MiB", "1.5GiB", "2TiB" (a B may follow a plain number).
// Errors: kInvalidArgument for anything else, a negative number, or one past
//   2^63 - 1 bytes.
absl::StatusOr<int64_t> ParseByteSize(const std::string& text);

// With three significant digits: "812 B", "8.11 MiB", "-1.5 KiB".
std::string FormatByteSize(int64_t bytes);

}  // namespace ounce

#endif  // OUNCE_BASE_BYTE_SIZE_H_
