// Regular expressions in the syntax that tokenizer.json writes.
//
// The reference reads them by Oniguruma 6.9.10 with that library's own syntax.
// Most of a pattern means the same to PCRE2; the rest is translated:
//   - properties, \d, \s, \w, \b and [:alpha:] by Oniguruma's Unicode
//     (onig_set.h); sets in sets, [a[bc]], and intersections, [\p{L}&&[^a-z]];
//   - repeats of repeats, a{1,2}+ and (?:a?)* (onig_repeats.h);
//   - named groups, beside which those without a name don't capture; references
//     \1, \k<-1>, \k<name>; calls \g<name>, which fail when they are 20 deep,
//     as Oniguruma's do; conditions (?(1)a|b); (?~a);
//   - \R, \N, \O, \h, \v, {,n}, {3,2}, \uHHHH, (?m:), (?x:), (?#).
// What can't be translated exactly is refused by name:
//   - \X, \G, \y, \Y, \M-a, \C-a, \o{12}, numbers in base 8 but for \012, bytes
//     beyond ASCII (\xE4), callouts, options other than i, m and x, names of
//     groups beyond ASCII, levels (\k<a+1>);
//   - in (?i:): letters and sets beyond ASCII, pairs that fold to one letter
//     ("ss"), references;
//   - a look-behind of varying length, and \K in any look-around;
//   - (?~|a|b), a (?~ or a call in a (?~, a condition without '|' or on several
//     groups or with a group that is referred to, a call beside a reference;
//   - a repeat, twice or more, of what may be empty; an endless one, around a
//     group that is referred to; one of (?:ab){1}; one of more than 65535;
//   - in sets: a range from or to a set;
//   - properties other than categories, scripts and those of [:alpha:] and its
//     like: blocks (In_Basic_Latin), ages, emoji, scripts since Unicode 15;
//   - nesting deeper than 32, and what makes PCRE2's pattern too long.
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

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_ONIG_PATTERN_H_
