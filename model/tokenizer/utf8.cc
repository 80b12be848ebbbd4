#include "model/tokenizer/utf8.h"

#include <cstdint>

#include "base/utf8.h"

namespace ounce::model {
namespace {

bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

}  // namespace

size_t LeadingSpaceBytes(std::string_view text) {
  if (text.empty()) return 0;
  const Utf8Sequence first = FirstUtf8Sequence(text);
  return first.kind == Utf8Sequence::kWhole && IsSpace(first.code_point)
             ? first.length
             : 0;
}

size_t LastCharacter(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80) --at;
  return at;
}

size_t TrailingSpaceBytes(std::string_view text) {
  if (text.empty()) return 0;
  return LeadingSpaceBytes(text.substr(LastCharacter(text)));
}

}  // namespace ounce::model
