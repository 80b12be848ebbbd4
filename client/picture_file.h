// Reads pictures to send, as they are: the server decodes them.
#ifndef OUNCE_CLIENT_PICTURE_FILE_H_
#define OUNCE_CLIENT_PICTURE_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace ounce::client {

// Of all pictures of a call together: what fits the largest message that a
// server may be told to take (its --max_message_bytes) beside the other fields.
// What this server takes, it says itself.
inline constexpr int64_t kMaxPictureBytes = (int64_t{1} << 30) - (64 << 10);

// "-" is "stdin"; others are their own name.
std::string PictureName(const std::string& path);

// The bytes of the file, or of stdin if `path` is "-".
// Errors: name the picture. What open(2) and read(2) say; kInvalidArgument when
//   it is a folder or empty; kResourceExhausted above `max_bytes`, without
//   reading on.
absl::StatusOr<std::string> ReadPicture(const std::string& path,
                                        int64_t max_bytes = kMaxPictureBytes);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_PICTURE_FILE_H_
