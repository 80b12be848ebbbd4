// Characters at the ends of a text.
#ifndef OUNCE_MODEL_TOKENIZER_UTF8_H_
#define OUNCE_MODEL_TOKENIZER_UTF8_H_

#include <cstddef>
#include <string_view>

namespace ounce::model {

// Unicode's White_Space, at either end of valid UTF-8: the bytes of the
// character there, 0 when it is no space or there is none.
size_t LeadingSpaceBytes(std::string_view text);
size_t TrailingSpaceBytes(std::string_view text);

// Where the last character of `text`, which is valid UTF-8 and not empty,
// begins.
size_t LastCharacter(std::string_view text);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_UTF8_H_
