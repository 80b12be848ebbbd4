#include "server/frontend/picture_reader.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

// What the reader of pictures refuses by its own limits says no reason.
Reason OfPicture(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return reason == Reason::kResourceExhausted ? Reason::kPictureTooLarge
                                              : reason;
}

absl::Status InField(absl::string_view field, const absl::Status& status) {
  if (absl::IsInvalidArgument(status)) {
    return WithReason(FieldError(field, status.message()),
                      Reason::kPictureUnreadable);
  }
  return WithReason(
      absl::Status(status.code(), absl::StrCat(field, ": ", status.message())),
      OfPicture(status));
}

}  // namespace

absl::StatusOr<PictureMemory::Reservation> PictureReader::Open(
    absl::string_view field, std::string_view bytes,
    const model::ImageProcessor& processor, const std::string& peer) const {
  if (bytes.empty()) {
    return FieldError(field, "is empty; must be a JPEG, PNG or WebP file");
  }
  const absl::StatusOr<image::PictureInfo> info =
      image::Inspect(bytes, limits_);
  if (!info.ok()) return InField(field, info.status());
  const absl::StatusOr<int64_t> prepare =
      processor.PrepareBytes(info->height, info->width);
  if (!prepare.ok()) return InField(field, prepare.status());
  // The file stays until it is decoded, the decoded picture until it is
  // resized.
  absl::StatusOr<PictureMemory::Reservation> memory =
      memory_.Reserve(static_cast<int64_t>(bytes.size()) +
                          std::max(image::DecodedBytes(*info),
                                   info->height * info->width * 3 + *prepare),
                      peer);
  if (!memory.ok()) return InField(field, memory.status());
  return memory;
}

absl::StatusOr<Picture> PictureReader::Read(
    absl::string_view field, std::string_view bytes,
    const model::ImageProcessor& processor,
    PictureMemory::Reservation memory) const {
  absl::StatusOr<image::Rgb8> decoded = image::Decode(bytes, limits_);
  if (!decoded.ok()) return InField(field, decoded.status());
  absl::StatusOr<model::PreparedPicture> prepared =
      processor.Prepare(*std::move(decoded));
  if (!prepared.ok()) return InField(field, prepared.status());
  Picture picture;
  picture.memory = std::move(memory);
  picture.rgb = std::move(prepared->rgb);
  picture.original_height = prepared->original.height;
  picture.original_width = prepared->original.width;
  picture.memory.Shrink(
      std::min(picture.memory.bytes(), picture.rgb.num_bytes()));
  return picture;
}

}  // namespace ounce::server
