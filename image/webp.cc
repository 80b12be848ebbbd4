// WebP by libwebp. Only the chunk with the pixels is handed to it, so that
// alpha is not even decoded.
#include <webp/decode.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status_macros.h"
#include "image/exif.h"
#include "image/format_reader.h"
#include "image/webp_lossless.h"

namespace ounce::image {
namespace {

uint32_t LittleEndian(std::string_view bytes, size_t offset, int size) {
  uint32_t value = 0;
  for (int i = size - 1; i >= 0; --i) {
    value = value << 8 | static_cast<uint8_t>(bytes[offset + i]);
  }
  return value;
}

struct Container {
  std::string_view pixels;  // of the first VP8 or VP8L chunk
  bool lossless = false;
  bool animated = false;
  int64_t frames = 0;        // of an animation
  std::string_view frame;    // the first of these: where it lies, then chunks
  int64_t canvas_width = 0;  // 0: not stated
  int64_t canvas_height = 0;
  std::string_view exif;
};

constexpr size_t kChunkHeader = 8;

// The pixels among the chunks of an animation's frame.
absl::Status ReadFrame(std::string_view frame, Container& container) {
  constexpr size_t kFrameHeader = 16;
  if (frame.size() < kFrameHeader) return Corrupt("an ANMF chunk cut short");
  for (size_t at = kFrameHeader; at + kChunkHeader <= frame.size();) {
    const std::string_view type = frame.substr(at, 4);
    const uint64_t length = LittleEndian(frame, at + 4, 4);
    if (length > frame.size() - at - kChunkHeader) break;
    if (type == "VP8 " || type == "VP8L") {
      container.pixels = frame.substr(at + kChunkHeader, length);
      container.lossless = type == "VP8L";
      return absl::OkStatus();
    }
    at += kChunkHeader + length + length % 2;
  }
  return Corrupt("no VP8 or VP8L chunk in the frame");
}

// Of a still picture, the corner of an animation's only frame: a still picture
// has it at 0, 0.
struct Corner {
  int64_t x = 0, y = 0;
};

Corner CornerOf(const Container& container) {
  if (container.frame.empty()) return {};
  return {.x = int64_t{LittleEndian(container.frame, 0, 3)} * 2,
          .y = int64_t{LittleEndian(container.frame, 3, 3)} * 2};
}

absl::StatusOr<Container> ReadContainer(std::string_view bytes) {
  constexpr size_t kRiffHeader = 12;
  if (bytes.size() < kRiffHeader + kChunkHeader) return Truncated(bytes);
  const uint64_t stated = uint64_t{LittleEndian(bytes, 4, 4)} + 8;
  if (stated > bytes.size()) return Truncated(bytes);
  const std::string_view all = bytes.substr(0, stated);
  Container container;
  for (size_t at = kRiffHeader; at + kChunkHeader <= all.size();) {
    const std::string_view type = all.substr(at, 4);
    const uint64_t length = LittleEndian(all, at + 4, 4);
    if (length > all.size() - at - kChunkHeader) return Truncated(bytes);
    const std::string_view payload = all.substr(at + kChunkHeader, length);
    if (type == "VP8X" && length >= 10) {
      container.animated = (payload[0] & 0x02) != 0;
      container.canvas_width = LittleEndian(payload, 4, 3) + 1;
      container.canvas_height = LittleEndian(payload, 7, 3) + 1;
    } else if (type == "ANMF") {
      if (++container.frames == 1) container.frame = payload;
    } else if (type == "EXIF") {
      if (container.exif.empty()) container.exif = payload;
    } else if ((type == "VP8 " || type == "VP8L") && container.pixels.empty()) {
      container.pixels = payload;
      container.lossless = type == "VP8L";
    }
    at += kChunkHeader + length + length % 2;
  }
  // One frame is a still picture.
  if (container.animated && container.frames == 1) {
    RETURN_IF_ERROR(ReadFrame(container.frame, container));
    container.animated = false;
    container.frames = 0;
  } else {
    container.frame = {};
  }
  return container;
}

const uint8_t* Data(std::string_view bytes) {
  return reinterpret_cast<const uint8_t*>(bytes.data());
}

// What the decoder of lossless pictures holds: the pixels as 32-bit words with
// some rows of cache, and its Huffman tables.
int64_t LosslessBytes(std::string_view stream, int64_t width, int64_t height) {
  return width * (height + 32) * 4 + LosslessTableBytes(stream).value_or(
                                         MaxLosslessTableBytes(width, height));
}

}  // namespace

absl::StatusOr<StoredHeader> ReadWebpHeader(std::string_view bytes) {
  ASSIGN_OR_RETURN(const Container container, ReadContainer(bytes));
  StoredHeader header;
  if (container.animated || container.frames > 0) {
    header.width = container.canvas_width;
    header.height = container.canvas_height;
    header.frames = container.frames;
    header.animated = true;
    return header;
  }
  if (container.pixels.empty()) return Corrupt("no VP8 or VP8L chunk");
  WebPBitstreamFeatures features;
  const VP8StatusCode code = WebPGetFeatures(
      Data(container.pixels), container.pixels.size(), &features);
  if (code == VP8_STATUS_NOT_ENOUGH_DATA) return Truncated(bytes);
  if (code != VP8_STATUS_OK) return Corrupt("not a VP8 or VP8L stream");
  header.width = features.width;
  header.height = features.height;
  if (container.canvas_width != 0) {
    const Corner corner = CornerOf(container);
    const bool fits =
        container.frame.empty()
            ? container.canvas_width == header.width &&
                  container.canvas_height == header.height
            : corner.x + header.width <= container.canvas_width &&
                  corner.y + header.height <= container.canvas_height;
    if (!fits) {
      return Corrupt(
          absl::StrCat("a picture of ", header.width, "x", header.height,
                       " at ", corner.x, ",", corner.y, " of a canvas of ",
                       container.canvas_width, "x", container.canvas_height));
    }
    header.width = container.canvas_width;
    header.height = container.canvas_height;
  }
  header.orientation = ExifOrientation(container.exif);
  header.working_bytes = (int64_t{1} << 20) + 256 * header.width;
  if (container.lossless) {
    header.working_bytes +=
        LosslessBytes(container.pixels, header.width, header.height);
  }
  return header;
}

absl::Status DecodeWebp(std::string_view bytes, const StoredHeader&,
                        Rgb8& out) {
  ASSIGN_OR_RETURN(const Container container, ReadContainer(bytes));
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) {
    return absl::InternalError("libwebp of another ABI than its headers'");
  }
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  // What lies around an animation's frame is transparent black, and `out` is
  // zeros.
  const Corner corner = CornerOf(container);
  const int64_t offset = (corner.y * out.width() + corner.x) * 3;
  config.output.u.RGBA.rgba = out.data() + offset;
  config.output.u.RGBA.stride = static_cast<int>(out.width() * 3);
  config.output.u.RGBA.size = out.num_bytes() - offset;
  const VP8StatusCode code =
      WebPDecode(Data(container.pixels), container.pixels.size(), &config);
  WebPFreeDecBuffer(&config.output);
  switch (code) {
    case VP8_STATUS_OK:
      return absl::OkStatus();
    case VP8_STATUS_OUT_OF_MEMORY:
      return absl::ResourceExhaustedError("no memory to decode");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return Truncated(bytes);
    default:
      return Corrupt("the VP8 or VP8L stream is broken");
  }
}

}  // namespace ounce::image
