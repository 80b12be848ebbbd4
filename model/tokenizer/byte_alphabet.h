// GPT-2's byte alphabet: a printable character for each byte, so that tokens of
// any bytes can stand in a text file. 'A' is the byte 0x41, 'Ġ' is a space.
#ifndef OUNCE_MODEL_TOKENIZER_BYTE_ALPHABET_H_
#define OUNCE_MODEL_TOKENIZER_BYTE_ALPHABET_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ounce::model {

// The character that stands for `byte`, as UTF-8 of one or two bytes. Valid for
// ever.
std::string_view SpelledByte(uint8_t byte);

// Appends the bytes that `token`, valid UTF-8, spells. False, with nothing
// appended, if it has a character that is not of the alphabet.
bool AppendSpelledBytes(std::string_view token, std::string& bytes);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_BYTE_ALPHABET_H_
