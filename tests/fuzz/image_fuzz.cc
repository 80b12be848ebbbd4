// Any bytes as a picture. The formats are told by their first bytes, so one
// target covers the three decoders and EXIF.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "image/decode.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  constexpr ounce::image::Limits kLimits = {
      .max_bytes = 1 << 20, .max_pixels = 1 << 16, .max_dimension = 2048};
  const auto info = ounce::image::Inspect(bytes, kLimits);
  const auto picture = ounce::image::Decode(bytes, kLimits);
  if (!info.ok()) {
    OUNCE_CHECK(picture.status() == info.status(),
                "Decode must refuse what Inspect refuses");
    return 0;
  }
  OUNCE_CHECK(info->width * info->height <= kLimits.max_pixels,
              "a picture is over the limit");
  if (picture.ok()) {
    OUNCE_CHECK(
        picture->width() == info->width && picture->height() == info->height,
        "Inspect must say the size that Decode gives");
  } else {
    OUNCE_CHECK(!absl::IsInternal(picture.status()),
                "a file must not look like a bug of ours");
  }
  return 0;
}
