#include "model/tokenizer/utf8.h"

#include <cstdint>

#include "base/utf8.h"

namespace ounce::model {

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t LeadingSpaceBytes(std::string_view text) {
  if (text.empty()) return 0;
  const Utf8Sequence first = FirstUtf8Sequence(text);
  return first.kind == Utf8Sequence::kWhole && IsWhiteSpace(first.code_point)
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

void LossyUtf8::Push(std::string_view bytes, std::string& text) {
  pending_ += bytes;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const size_t valid = ValidUtf8Prefix(rest);
    text += rest.substr(0, valid);
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const Utf8Sequence sequence = FirstUtf8Sequence(rest);
    if (sequence.kind == Utf8Sequence::kCutShort) break;
    text += kReplacementText;
    rest.remove_prefix(sequence.length);
  }
  pending_.erase(0, pending_.size() - rest.size());
}

void LossyUtf8::Finish(std::string& text) {
  // What is pending is one sequence cut short.
  if (!pending_.empty()) text += kReplacementText;
  pending_.clear();
}

}  // namespace ounce::model
