#include "image/exif.h"

#include <cstdint>
#include <string>

namespace ounce::image {
namespace {

// Unsigned integers of a TIFF block; 0 outside of it.
class Tiff {
 public:
  Tiff(std::string_view bytes, bool big_endian)
      : bytes_(bytes), big_endian_(big_endian) {}

  uint32_t Get(uint64_t offset, int size) const {
    if (offset + size > bytes_.size()) return 0;
    uint32_t value = 0;
    for (int i = 0; i < size; ++i) {
      const int at = big_endian_ ? i : size - 1 - i;
      value = value << 8 | static_cast<uint8_t>(bytes_[offset + at]);
    }
    return value;
  }

 private:
  const std::string_view bytes_;
  const bool big_endian_;
};

}  // namespace

int ExifOrientation(std::string_view exif) {
  constexpr std::string_view kPrefix("Exif\0\0", 6);
  constexpr uint32_t kOrientationTag = 0x0112;
  if (exif.starts_with(kPrefix)) exif.remove_prefix(kPrefix.size());
  const bool big_endian = exif.starts_with(std::string_view("MM\0\x2a", 4));
  if (!big_endian && !exif.starts_with(std::string_view("II\x2a\0", 4))) {
    return 1;
  }
  const Tiff tiff(exif, big_endian);
  const uint64_t directory = tiff.Get(4, 4);
  const uint32_t num_entries = tiff.Get(directory, 2);
  for (uint32_t i = 0; i < num_entries; ++i) {
    const uint64_t entry = directory + 2 + uint64_t{12} * i;
    if (tiff.Get(entry, 2) != kOrientationTag) continue;
    // Types BYTE, SHORT and LONG, whose value stands in the entry itself.
    const uint32_t type = tiff.Get(entry + 2, 2);
    const int size = type == 1 ? 1 : type == 3 ? 2 : type == 4 ? 4 : 0;
    if (size == 0 || tiff.Get(entry + 4, 4) == 0) return 1;
    const uint32_t value = tiff.Get(entry + 8, size);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

std::string ExifOfRawProfile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return "";
    text.remove_prefix(end + 1);
  }
  std::string bytes;
  int digits = 0, value = 0;
  for (const char c : text) {
    if (c == '\n' || c == '\r' || c == ' ' || c == '\t') continue;
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) break;
    value = value * 16 + digit;
    if (++digits % 2 == 0) {
      bytes.push_back(static_cast<char>(value));
      value = 0;
    }
  }
  return bytes;
}

}  // namespace ounce::image
