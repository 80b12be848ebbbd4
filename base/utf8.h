// UTF-8 one sequence at a time, as the Unicode standard's table 3-7 has it.
#ifndef OUNCE_BASE_UTF8_H_
#define OUNCE_BASE_UTF8_H_

#include <cstddef>
#include <string_view>

namespace ounce {

struct Utf8Sequence {
  enum Kind {
    kWhole,     // one character
    kCutShort,  // the text ends inside what may still become one
    kBroken,    // bytes that no continuation can make a character of
  };
  Kind kind = kBroken;
  // Bytes. Of a broken sequence: its longest part that begins a character, the
  // unit that is replaced by one U+FFFD.
  size_t length = 0;
  char32_t code_point = 0;  // of a whole one
};

// The sequence that `text`, which is not empty, begins with.
Utf8Sequence FirstUtf8Sequence(std::string_view text);

// Length of the valid UTF-8 prefix of `text` (all of it if valid). Surrogates,
// overlong forms and values past U+10FFFF are invalid.
size_t ValidUtf8Prefix(std::string_view text);

}  // namespace ounce

#endif  // OUNCE_BASE_UTF8_H_
