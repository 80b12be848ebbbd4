// Pictures from bytes that nobody vouches for: JPEG, PNG and WebP to RGB.
//
// The pixels are those of Pillow's
//   ImageOps.exif_transpose(Image.open(file)).convert("RGB")
// so grey becomes three equal channels, palettes are looked up, CMYK is
// converted without a colour profile, alpha is dropped (nothing is laid under
// it), and the picture is turned as its EXIF orientation says. Two differences:
// 16-bit grey takes each sample's high byte, as 16-bit colour does (Pillow's
// mode I;16 clips at 255), and an orientation that only XMP states is ignored.
//
// Threads: pure functions; any thread may call anything.
// Errors: kInvalidArgument: not a picture of the three formats (the message
//   names what it looks like), truncated or corrupt, or more than one frame.
//   kResourceExhausted: over a limit, with what was found and what is allowed,
//   or the system has no memory. No pixel is decoded of a picture over a limit.
#ifndef OUNCE_IMAGE_DECODE_H_
#define OUNCE_IMAGE_DECODE_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "image/rgb8.h"

namespace ounce::image {

// What a picture may have at most.
struct Limits {
  int64_t max_bytes = 32 << 20;     // of the file
  int64_t max_pixels = 64'000'000;  // width * height; 192 MB decoded
  int64_t max_dimension = 16'384;   // pixels of the longer side
};

enum class Format { kJpeg, kPng, kWebp };

std::string_view FormatName(Format format);  // "JPEG", "PNG", "WebP"

struct PictureInfo {
  Format format = Format::kJpeg;
  // Pixels, after turning by the EXIF orientation.
  int64_t width = 0;
  int64_t height = 0;
  int orientation = 1;  // EXIF's, 1 (upright) to 8
  int frames = 1;       // Inspect refuses more
  // Bytes that the decoder holds at most besides the result: coefficients of a
  // progressive JPEG, the rows of an interlaced PNG, the turned copy.
  int64_t working_bytes = 0;
};

// Reads the header alone; what it accepts, Decode may still find corrupt.
absl::StatusOr<PictureInfo> Inspect(std::string_view bytes,
                                    const Limits& limits = {});

// The most memory that Decode takes for this picture, the result included: for
// a budget of pictures in flight, known before a pixel is decoded.
int64_t DecodedBytes(const PictureInfo& info);

// Inspects, then decodes.
absl::StatusOr<Rgb8> Decode(std::string_view bytes, const Limits& limits = {});

}  // namespace ounce::image

#endif  // OUNCE_IMAGE_DECODE_H_
