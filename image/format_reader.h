// What decode.cc asks of each format.
#ifndef OUNCE_IMAGE_FORMAT_READER_H_
#define OUNCE_IMAGE_FORMAT_READER_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "image/rgb8.h"

namespace ounce::image {

// As stored, before any turning.
struct StoredHeader {
  int64_t width = 0;
  int64_t height = 0;
  int orientation = 1;
  bool animated = false;
  int64_t frames = 1;
  int64_t working_bytes = 0;  // of the decoder, besides the pixels
};

// Errors: kInvalidArgument: truncated or corrupt. Allocates nothing that grows
// with the picture's size.
absl::StatusOr<StoredHeader> ReadJpegHeader(std::string_view bytes);
absl::StatusOr<StoredHeader> ReadPngHeader(std::string_view bytes);
absl::StatusOr<StoredHeader> ReadWebpHeader(std::string_view bytes);

// Fills `out`, which has the size of `header`, the one read from `bytes`.
// Errors: kInvalidArgument: truncated or corrupt; kResourceExhausted: the
// decoder wanted more than header.working_bytes, or there is no memory.
absl::Status DecodeJpeg(std::string_view bytes, const StoredHeader& header,
                        Rgb8& out);
absl::Status DecodePng(std::string_view bytes, const StoredHeader& header,
                       Rgb8& out);
absl::Status DecodeWebp(std::string_view bytes, const StoredHeader& header,
                        Rgb8& out);

// The errors that all formats have.
absl::Status Truncated(std::string_view bytes);
absl::Status Corrupt(std::string_view reason);

}  // namespace ounce::image

#endif  // OUNCE_IMAGE_FORMAT_READER_H_
