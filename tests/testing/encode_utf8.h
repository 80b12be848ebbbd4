// A code point as UTF-8, surrogates and values past U+10FFFF included: what the
// product code, which only reads UTF-8, is tested with.
#ifndef OUNCE_TESTS_TESTING_ENCODE_UTF8_H_
#define OUNCE_TESTS_TESTING_ENCODE_UTF8_H_

#include <cstdint>
#include <string>

namespace ounce::testing {

inline std::string EncodeUtf8(uint32_t c) {
  std::string bytes;
  if (c < 0x80) {
    bytes.push_back(static_cast<char>(c));
    return bytes;
  }
  if (c < 0x800) {
    bytes.push_back(static_cast<char>(0xc0 | c >> 6));
  } else if (c < 0x10000) {
    bytes.push_back(static_cast<char>(0xe0 | c >> 12));
    bytes.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3f)));
  } else {
    bytes.push_back(static_cast<char>(0xf0 | c >> 18));
    bytes.push_back(static_cast<char>(0x80 | (c >> 12 & 0x3f)));
    bytes.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3f)));
  }
  bytes.push_back(static_cast<char>(0x80 | (c & 0x3f)));
  return bytes;
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_ENCODE_UTF8_H_
