#include "client/picture_file.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/input_file.h"

namespace ounce::client {

absl::StatusOr<std::string> ReadPicture(const std::string& path,
                                        int64_t max_bytes) {
  absl::StatusOr<std::string> bytes =
      ReadInput(path, {.what = "picture",
                       .advice = "models look at about a megapixel, so send it "
                                 "smaller or as a JPEG",
                       .max_bytes = max_bytes});
  if (bytes.ok() && bytes->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        InputName(path), ": is empty, not a JPEG, PNG or WebP file"));
  }
  return bytes;
}

}  // namespace ounce::client
