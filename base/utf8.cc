#include "base/utf8.h"

#include <cstdint>
#include <cstring>

namespace ounce {

Utf8Sequence FirstUtf8Sequence(std::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {Utf8Sequence::kWhole, 1, lead};
  // The second byte's range keeps out overlong forms, surrogates and values
  // past U+10FFFF.
  size_t length = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xbf;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return {Utf8Sequence::kBroken, 1, 0};
  }
  char32_t code_point = lead & (0xff >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8Sequence::kCutShort, i, 0};
    if (byte(i) < low || byte(i) > high) return {Utf8Sequence::kBroken, i, 0};
    code_point = code_point << 6 | (byte(i) & 0x3f);
    low = 0x80;
    high = 0xbf;
  }
  return {Utf8Sequence::kWhole, length, code_point};
}

size_t ValidUtf8Prefix(std::string_view text) {
  constexpr uint64_t kHighBits = 0x8080808080808080;
  size_t at = 0;
  while (at < text.size()) {
    uint64_t eight = 0;
    if (text.size() - at >= sizeof(eight)) {
      std::memcpy(&eight, text.data() + at, sizeof(eight));
      if ((eight & kHighBits) == 0) {
        at += sizeof(eight);
        continue;
      }
    }
    const Utf8Sequence sequence = FirstUtf8Sequence(text.substr(at));
    if (sequence.kind != Utf8Sequence::kWhole) break;
    at += sequence.length;
  }
  return at;
}

}  // namespace ounce
