// From the bytes of a picture file to what a model takes, within limits and
// within the memory that all pictures share.
//
// Threads: any thread may call anything. Open reads a header and is quick; Read
//   decodes and resizes, and is not.
// Errors, naming `field`: kInvalidArgument for what is no picture, or not a
//   whole one; kResourceExhausted over a limit, with RetryInfo where only too
//   many others are in flight.
#ifndef OUNCE_SERVER_FRONTEND_PICTURE_READER_H_
#define OUNCE_SERVER_FRONTEND_PICTURE_READER_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "image/decode.h"
#include "model/processors/image_processor.h"
#include "server/scheduler/detect_request.h"
#include "server/scheduler/picture_memory.h"

namespace ounce::server {

class PictureReader {
 public:
  // `memory` must outlive it and every picture that it gave out.
  PictureReader(const image::Limits& limits, PictureMemory& memory)
      : limits_(limits), memory_(memory) {}

  // Checks the header, and reserves what Read will take for `peer`.
  absl::StatusOr<PictureMemory::Reservation> Open(
      absl::string_view field, std::string_view bytes,
      const model::ImageProcessor& processor, const std::string& peer) const;

  // `memory` is Open's, of the same bytes; the picture keeps what it needs.
  absl::StatusOr<Picture> Read(absl::string_view field, std::string_view bytes,
                               const model::ImageProcessor& processor,
                               PictureMemory::Reservation memory) const;

 private:
  const image::Limits limits_;
  PictureMemory& memory_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_FRONTEND_PICTURE_READER_H_
