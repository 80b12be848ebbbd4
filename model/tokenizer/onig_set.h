// Sets of characters as Oniguruma knows them, and how PCRE2 is told of them:
// what a property, \w or [..] stands for, by Oniguruma's Unicode, which is 16,
// whatever version PCRE2 has (Debian 12's has 14).
#ifndef OUNCE_MODEL_TOKENIZER_ONIG_SET_H_
#define OUNCE_MODEL_TOKENIZER_ONIG_SET_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ounce::model {

// The characters that one place of a pattern may match.
struct OnigSet {
  std::string members;  // of a set in PCRE2's syntax
  // Whole sub-patterns of one character each, for what can't be a member.
  std::vector<std::string> others;
  bool negated = false;
  // Whether it holds characters beyond ASCII that have another case.
  bool has_wide_cases = false;

  void AddRange(char32_t first, char32_t last);
  void Add(const OnigSet& part);
};

// One character of the set, as a pattern of PCRE2.
std::string PatternOf(const OnigSet& set);

// What both hold.
OnigSet Intersection(const std::vector<OnigSet>& sets);

// \s, \d, \h and \w; the last one is another inside of sets.
OnigSet SpaceSet();
OnigSet DigitSet();
OnigSet HexSet();
OnigSet WordSet(bool in_set);

// What \p{name} and [:name:] hold; nothing for what we don't know.
std::optional<OnigSet> PropertySet(std::string_view name, bool in_set);
std::optional<OnigSet> BracketSet(std::string_view name);

// What a set in PCRE2's syntax, [..], holds for the word characters of Rust's
// regular expressions (Oniguruma's but for some digits and joiners), and for
// white space of both.
std::string RustWordCharacters();
std::string WhiteSpaceCharacters();

// "\x{e4}" in PCRE2's syntax.
std::string CharacterPattern(char32_t c);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_ONIG_SET_H_
