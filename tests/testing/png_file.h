// PNG files for tests, of any size. Link ZLIB::ZLIB.
#ifndef OUNCE_TESTS_TESTING_PNG_FILE_H_
#define OUNCE_TESTS_TESTING_PNG_FILE_H_

#include <zlib.h>

#include <cstdint>
#include <string>

#include "base/check.h"

namespace ounce::testing {

inline std::string BigEndian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
          static_cast<char>(value >> 8), static_cast<char>(value)};
}

inline std::string PngChunk(const std::string& type, const std::string& data) {
  const std::string body = type + data;
  return BigEndian(static_cast<uint32_t>(data.size())) + body +
         BigEndian(static_cast<uint32_t>(
             crc32(0, reinterpret_cast<const Bytef*>(body.data()),
                   static_cast<uInt>(body.size()))));
}

// Says that it is `height` x `width` of grey, and holds `pixels`: rows of a
// zero byte and then width bytes.
inline std::string PngOf(uint32_t height, uint32_t width,
                         const std::string& pixels) {
  std::string packed(compressBound(pixels.size()), '\0');
  uLongf size = packed.size();
  OUNCE_CHECK(compress(reinterpret_cast<Bytef*>(packed.data()), &size,
                       reinterpret_cast<const Bytef*>(pixels.data()),
                       pixels.size()) == Z_OK,
              "zlib packs what it is given");
  packed.resize(size);
  using namespace std::string_literals;  // NOLINT
  return "\x89PNG\r\n\x1a\n"s +
         PngChunk("IHDR", BigEndian(width) + BigEndian(height) +
                              "\x08\x00\x00\x00\x00"s) +
         PngChunk("IDAT", packed) + PngChunk("IEND", "");
}

// A whole picture; `seed` makes different ones.
inline std::string MakePng(uint32_t height, uint32_t width, uint32_t seed = 1) {
  std::string pixels;
  for (uint32_t y = 0; y < height; ++y) {
    pixels += '\0';
    for (uint32_t x = 0; x < width; ++x) {
      pixels += static_cast<char>((x * seed + y * 3) & 0xff);
    }
  }
  return PngOf(height, width, pixels);
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_PNG_FILE_H_
