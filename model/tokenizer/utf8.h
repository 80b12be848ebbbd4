// UTF-8 one sequence at a time, as the Unicode standard's table 3-7 has it.
#ifndef OUNCE_MODEL_TOKENIZER_UTF8_H_
#define OUNCE_MODEL_TOKENIZER_UTF8_H_

#include <cstddef>
#include <string_view>

namespace ounce::model {

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

// Unicode's White_Space, at either end of valid UTF-8: the bytes of the
// character there, 0 when it is no space or there is none.
size_t LeadingSpaceBytes(std::string_view text);
size_t TrailingSpaceBytes(std::string_view text);

// Where the last character of `text`, which is valid UTF-8 and not empty,
// begins.
size_t LastCharacter(std::string_view text);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_UTF8_H_
