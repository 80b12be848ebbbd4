// Characters at the ends of a text, and text out of bytes that may be none.
#ifndef OUNCE_MODEL_TOKENIZER_UTF8_H_
#define OUNCE_MODEL_TOKENIZER_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace ounce::model {

// Unicode's White_Space.
bool IsWhiteSpace(char32_t c);

// White space at either end of valid UTF-8: the bytes of the
// character there, 0 when it is no space or there is none.
size_t LeadingSpaceBytes(std::string_view text);
size_t TrailingSpaceBytes(std::string_view text);

// Where the last character of `text`, which is valid UTF-8 and not empty,
// begins.
size_t LastCharacter(std::string_view text);

// U+FFFD, which stands for what is no text.
inline constexpr std::string_view kReplacementText = "\xef\xbf\xbd";

// Bytes that come in parts, as valid UTF-8: those of a character that is still
// incomplete are held back, at most 3; those that can never become a character
// come out as U+FFFD, one for each broken sequence.
//
// Threads: one at a time.
class LossyUtf8 {
 public:
  // Appends what `bytes` complete.
  void Push(std::string_view bytes, std::string& text);

  // Appends a U+FFFD if something is still held back.
  void Finish(std::string& text);

 private:
  std::string pending_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_UTF8_H_
