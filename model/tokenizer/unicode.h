// What Unicode says of characters, as the reference has it.
//
// Hugging Face tokenizers 0.22.2 has several versions of Unicode in it: lower
// case and numbers are of 17, marks of 9, punctuation and controls of 8, normal
// forms of 9. Debian 12's utf8proc 2.8, on which this stands, has 15. What
// differs lies in unicode_tables.inc, and unicode_test.cc compares every code
// point.
#ifndef OUNCE_MODEL_TOKENIZER_UNICODE_H_
#define OUNCE_MODEL_TOKENIZER_UNICODE_H_

#include <string>
#include <string_view>

namespace ounce::model {

// Rust's char::is_numeric: the categories N*.
bool IsNumber(char32_t c);
// P*, or any ASCII character that is neither letter, digit, space nor control.
bool IsPunctuation(char32_t c);
// Categories M*.
bool IsMark(char32_t c);
// Category Mn.
bool IsNonspacingMark(char32_t c);
// Categories Cc, Cf and Co.
bool IsControl(char32_t c);

// Appends `c` as UTF-8.
void AppendUtf8(char32_t c, std::string& text);

// Appends the lower case of `c`, one character or two: Rust's
// char::to_lowercase.
void AppendLowerCase(char32_t c, std::string& text);

// The normal forms of `text`, valid UTF-8. Time: linear, but n log n in a run
// of marks.
enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
std::string Normalized(std::string_view text, NormalForm form);

// The length of the first extended grapheme cluster of `text`, which is valid
// UTF-8 and not empty.
size_t GraphemeBytes(std::string_view text);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_UNICODE_H_
