#include "image/decode.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/utf8.h"
#include "image/format_reader.h"

namespace ounce::image {

absl::Status Truncated(std::string_view bytes) {
  return absl::InvalidArgumentError(absl::StrCat(
      "truncated: its ", bytes.size(), " bytes end before the picture does"));
}

absl::Status Corrupt(std::string_view reason) {
  return absl::InvalidArgumentError(
      absl::StrCat("corrupt: ", std::string(reason)));
}

namespace {

using namespace std::string_view_literals;

struct Signature {
  size_t offset;
  std::string_view bytes;
  const char* name;
};

// What people send instead of a picture that we read.
constexpr Signature kOthers[] = {
    {0, "GIF8"sv, "a GIF"},
    {0, "BM"sv, "a BMP"},
    {0, "II*\0"sv, "a TIFF"},
    {0, "MM\0*"sv, "a TIFF"},
    {4, "ftypavi"sv, "an AVIF"},
    {4, "ftyphei"sv, "a HEIC"},
    {4, "ftyphev"sv, "a HEIC"},
    {4, "ftypmif1"sv, "a HEIF"},
    {4, "ftypmsf1"sv, "a HEIF"},
    {4, "ftyp"sv, "a video (MP4 or QuickTime)"},
    {0, "%PDF"sv, "a PDF"},
    {0, "8BPS"sv, "a Photoshop file"},
    {0, "\0\0\1\0"sv, "an icon"},
    {0, "\xff\x0a"sv, "a JPEG XL"},
    {0, "\0\0\0\x0cJXL "sv, "a JPEG XL"},
    {0, "\0\0\0\x0cjP  "sv, "a JPEG 2000"},
    {0, "\xff\x4f\xff\x51"sv, "a JPEG 2000"},
    {0, "qoif"sv, "a QOI"},
    {0, "PK\3\4"sv, "a ZIP archive"},
    {0, "\x1f\x8b"sv, "gzip data"},
    {0,
     "\x7f"
     "ELF"sv,
     "a program"},
    {0, "<svg"sv, "an SVG"},
    {0, "<?xml"sv, "XML text"},
};

bool Has(std::string_view bytes, size_t offset, std::string_view signature) {
  return bytes.size() >= offset && bytes.substr(offset).starts_with(signature);
}

// The beginning of a file, whose last character may be cut.
bool LooksLikeText(std::string_view bytes) {
  const size_t valid = ValidUtf8Prefix(bytes);
  if (valid == 0 ||
      (valid < bytes.size() && FirstUtf8Sequence(bytes.substr(valid)).kind !=
                                   Utf8Sequence::kCutShort)) {
    return false;
  }
  return std::none_of(bytes.begin(), bytes.end(), [](char c) {
    const uint8_t byte = static_cast<uint8_t>(c);
    return byte == 0x7f ||
           (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r');
  });
}

std::string LooksLike(std::string_view bytes) {
  if (bytes.empty()) return "no bytes at all";
  for (const Signature& other : kOthers) {
    if (Has(bytes, other.offset, other.bytes)) return other.name;
  }
  const std::string_view first = bytes.substr(0, 64);
  if (LooksLikeText(first)) return "text";
  if (std::all_of(first.begin(), first.end(), [](char c) { return c == 0; })) {
    return "zeros";
  }
  constexpr char kHex[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes.substr(0, 8)) {
    const uint8_t byte = static_cast<uint8_t>(c);
    hex += {kHex[byte >> 4], kHex[byte & 15], ' '};
  }
  hex.pop_back();
  return absl::StrCat("bytes that begin with ", hex);
}

absl::StatusOr<Format> FindFormat(std::string_view bytes) {
  if (Has(bytes, 0, "\xff\xd8\xff"sv)) return Format::kJpeg;
  if (Has(bytes, 0, "\x89PNG\r\n\x1a\n"sv)) return Format::kPng;
  if (Has(bytes, 0, "RIFF"sv) && Has(bytes, 8, "WEBP"sv)) return Format::kWebp;
  return absl::InvalidArgumentError(
      absl::StrCat("not a picture in JPEG, PNG or WebP: ", LooksLike(bytes)));
}

absl::StatusOr<StoredHeader> ReadHeader(Format format, std::string_view bytes) {
  switch (format) {
    case Format::kJpeg:
      return ReadJpegHeader(bytes);
    case Format::kPng:
      return ReadPngHeader(bytes);
    case Format::kWebp:
      return ReadWebpHeader(bytes);
  }
  return absl::InternalError("no such format");
}

absl::Status DecodePixels(Format format, std::string_view bytes,
                          const StoredHeader& header, Rgb8& out) {
  switch (format) {
    case Format::kJpeg:
      return DecodeJpeg(bytes, header, out);
    case Format::kPng:
      return DecodePng(bytes, header, out);
    case Format::kWebp:
      return DecodeWebp(bytes, header, out);
  }
  return absl::InternalError("no such format");
}

absl::Status CheckLimits(const StoredHeader& header, const Limits& limits) {
  const auto over = [&](const std::string& allowed) {
    return absl::ResourceExhaustedError(
        absl::StrCat("it has ", header.width, "x", header.height,
                     " pixels; at most ", allowed, " are allowed"));
  };
  if (header.width < 1 || header.height < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "corrupt: it has ", header.width, "x", header.height, " pixels"));
  }
  if (std::max(header.width, header.height) > limits.max_dimension) {
    return over(absl::StrCat(limits.max_dimension, " a side"));
  }
  if (header.width * header.height > limits.max_pixels) {
    return over(absl::StrCat(limits.max_pixels, " in all"));
  }
  return absl::OkStatus();
}

struct Found {
  Format format;
  StoredHeader header;
};

absl::StatusOr<Found> Examine(std::string_view bytes, const Limits& limits) {
  if (static_cast<int64_t>(bytes.size()) > limits.max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the picture has ", bytes.size(), " bytes; at most ",
                     limits.max_bytes, " are allowed"));
  }
  ASSIGN_OR_RETURN(const Format format, FindFormat(bytes));
  auto header = ReadHeader(format, bytes);
  if (!header.ok()) return WithContext(header.status(), FormatName(format));
  if (header->animated) {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(FormatName(format)), ": an animation of ",
                     header->frames, header->frames == 1 ? " frame" : " frames",
                     "; send one frame as a still picture"));
  }
  if (absl::Status status = CheckLimits(*header, limits); !status.ok()) {
    return WithContext(status, FormatName(format));
  }
  return Found{.format = format, .header = *header};
}

// Where the pixels of a turned picture come from: stored pixel
// start + y * down + x * across.
struct Turn {
  int64_t start, down, across;
};

Turn TurnFor(int orientation, int64_t width, int64_t height) {
  const int64_t last_row = (height - 1) * width;
  switch (orientation) {
    case 2:  // mirrored
      return {width - 1, width, -1};
    case 3:  // upside down
      return {last_row + width - 1, -width, -1};
    case 4:  // upside down, mirrored
      return {last_row, -width, 1};
    case 5:  // transposed
      return {0, 1, width};
    case 6:  // to be turned right
      return {last_row, 1, -width};
    case 7:  // transposed along the other diagonal
      return {last_row + width - 1, -1, -width};
    case 8:  // to be turned left
      return {width - 1, -1, width};
    default:
      return {0, width, 1};
  }
}

bool SwapsSides(int orientation) { return orientation >= 5; }

absl::StatusOr<Rgb8> Turned(const Rgb8& stored, int orientation) {
  const bool swaps = SwapsSides(orientation);
  ASSIGN_OR_RETURN(Rgb8 turned,
                   Rgb8::Create(swaps ? stored.width() : stored.height(),
                                swaps ? stored.height() : stored.width()));
  const Turn turn = TurnFor(orientation, stored.width(), stored.height());
  // By tiles, so that both sides stay in the cache.
  constexpr int64_t kTile = 32;
  for (int64_t y0 = 0; y0 < turned.height(); y0 += kTile) {
    for (int64_t x0 = 0; x0 < turned.width(); x0 += kTile) {
      const int64_t y1 = std::min(y0 + kTile, turned.height());
      const int64_t x1 = std::min(x0 + kTile, turned.width());
      for (int64_t y = y0; y < y1; ++y) {
        uint8_t* out = turned.row(y) + x0 * 3;
        for (int64_t x = x0; x < x1; ++x, out += 3) {
          const uint8_t* in =
              stored.data() +
              (turn.start + y * turn.down + x * turn.across) * 3;
          out[0] = in[0];
          out[1] = in[1];
          out[2] = in[2];
        }
      }
    }
  }
  return turned;
}

}  // namespace

std::string_view FormatName(Format format) {
  switch (format) {
    case Format::kJpeg:
      return "JPEG";
    case Format::kPng:
      return "PNG";
    case Format::kWebp:
      return "WebP";
  }
  return "";
}

absl::StatusOr<PictureInfo> Inspect(std::string_view bytes,
                                    const Limits& limits) {
  ASSIGN_OR_RETURN(const Found found, Examine(bytes, limits));
  const StoredHeader& header = found.header;
  PictureInfo info = {.format = found.format,
                      .width = header.width,
                      .height = header.height,
                      .orientation = header.orientation,
                      .working_bytes = header.working_bytes};
  if (SwapsSides(info.orientation)) std::swap(info.width, info.height);
  // The decoder is gone when the turned copy is made.
  if (info.orientation != 1) {
    info.working_bytes =
        std::max(info.working_bytes, info.width * info.height * 3);
  }
  return info;
}

int64_t DecodedBytes(const PictureInfo& info) {
  return info.width * info.height * 3 + Rgb8::kPadding + info.working_bytes;
}

absl::StatusOr<Rgb8> Decode(std::string_view bytes, const Limits& limits) {
  ASSIGN_OR_RETURN(const Found found, Examine(bytes, limits));
  ASSIGN_OR_RETURN(Rgb8 picture,
                   Rgb8::Create(found.header.height, found.header.width));
  const absl::Status status =
      DecodePixels(found.format, bytes, found.header, picture);
  if (!status.ok()) return WithContext(status, FormatName(found.format));
  if (found.header.orientation == 1) return picture;
  return Turned(picture, found.header.orientation);
}

}  // namespace ounce::image
