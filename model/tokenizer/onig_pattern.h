// Regular expressions in the syntax that tokenizer.json writes.
//
// The reference reads them by Oniguruma with Ruby's syntax. Most of a pattern
// means the same to PCRE2; the rest is translated:
//   - \p{..}, \d, \s and \w by Oniguruma's Unicode, which is 16, whatever
//     version PCRE2 has (Debian 12's has 14);
//   - sets in sets, [a[bc]], and intersections, [\p{L}&&[^a-z]];
//   - \h, \v, {,n}, \uHHHH and (?m:).
// What differs and is in no published pattern is refused by name: \b, \X, \R,
// backreferences, {n,m}+, named properties that are rare, ...
#ifndef OUNCE_MODEL_TOKENIZER_ONIG_PATTERN_H_
#define OUNCE_MODEL_TOKENIZER_ONIG_PATTERN_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ounce::model {

// `pattern` in PCRE2's syntax, for PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE.
// Errors: kUnimplemented, naming the construct, and kInvalidArgument for what
// is no pattern.
absl::StatusOr<std::string> FromOnigPattern(std::string_view pattern);

// What a set in PCRE2's syntax, [..], holds for the word characters of Rust's
// regular expressions (Oniguruma's but for some digits and joiners), and for
// white space of both.
std::string RustWordCharacters();
std::string WhiteSpaceCharacters();

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_ONIG_PATTERN_H_
