// Finds and reads pictures to send, as they are: the server decodes them.
#ifndef OUNCE_CLIENT_PICTURE_FILE_H_
#define OUNCE_CLIENT_PICTURE_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ounce::client {

// Of all pictures of a call together: what fits the largest message that a
// server may be told to take (its --max_message_bytes) beside the other fields.
// What this server takes, it says itself.
inline constexpr int64_t kMaxPictureBytes = (int64_t{1} << 30) - (64 << 10);

// The bytes of the file, or of stdin if `path` is "-".
// Errors: as ReadInput; kInvalidArgument when it is empty.
absl::StatusOr<std::string> ReadPicture(const std::string& path,
                                        int64_t max_bytes = kMaxPictureBytes);

// The bytes of each, in their order.
// Errors: as ReadPicture; kResourceExhausted above `max_bytes` together, with
//   the name of the first that is too many.
absl::StatusOr<std::vector<std::string>> ReadPictures(
    const std::vector<std::string>& paths,
    int64_t max_bytes = kMaxPictureBytes);

// The paths of the picture files in `folder`, by name. Their endings tell them
// from others, in any case; there may be none.
// Errors: what opendir(3) says, with the folder's name.
absl::StatusOr<std::vector<std::string>> PicturesIn(const std::string& folder);

// ".jpg, .jpeg, ... or .webp", for messages.
std::string PictureEndings();

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_PICTURE_FILE_H_
