// tests/golden/image, which tools/make_image_goldens.py writes.
#ifndef OUNCE_TESTS_IMAGE_GOLDENS_H_
#define OUNCE_TESTS_IMAGE_GOLDENS_H_

#include <zlib.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "image/rgb8.h"

namespace ounce::testing {

// Tests run in the root of the source tree.
inline constexpr char kGoldenImages[] = "tests/golden/image/";

inline std::string ReadFileOrDie(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  OUNCE_CHECK(in, "a golden file is missing; tests run in the source tree");
  return std::string(std::istreambuf_iterator<char>(in), {});
}

inline std::string GoldenPicture(const std::string& name) {
  return ReadFileOrDie(absl::StrCat(kGoldenImages, "pictures/", name));
}

// The words of each line.
inline std::vector<std::vector<std::string>> GoldenLines(
    const std::string& name) {
  std::vector<std::vector<std::string>> lines;
  std::istringstream in(ReadFileOrDie(kGoldenImages + name));
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    lines.emplace_back(std::istream_iterator<std::string>(words),
                       std::istream_iterator<std::string>());
  }
  return lines;
}

// As Python's f"{zlib.crc32(data):08x}".
inline std::string Crc(const void* data, size_t size) {
  const uint32_t crc =
      crc32(0, static_cast<const Bytef*>(data), static_cast<uInt>(size));
  std::string hex(8, '0');
  for (int i = 0; i < 8; ++i)
    hex[i] = "0123456789abcdef"[crc >> (28 - 4 * i) & 15];
  return hex;
}

inline std::string Crc(const image::Rgb8& picture) {
  return Crc(picture.data(), picture.num_bytes());
}

// The same noise as in make_image_goldens.py.
inline image::Rgb8 Noise(int64_t height, int64_t width) {
  auto picture = image::Rgb8::Create(height, width);
  OUNCE_CHECK(picture.ok(), "no memory for a test's picture");
  uint32_t state = static_cast<uint32_t>(width * 65536 + height);
  for (int64_t i = 0; i < picture->num_bytes(); ++i) {
    state = state * 1664525u + 1013904223u;
    picture->data()[i] = static_cast<uint8_t>(state >> 24);
  }
  return *std::move(picture);
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_IMAGE_GOLDENS_H_
