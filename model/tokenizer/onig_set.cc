#include "model/tokenizer/onig_set.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "absl/strings/str_format.h"
#include "base/str_cat.h"

namespace ounce::model {
namespace {

// Unicode's White_Space. Spelled out because PCRE2's \s has U+180E, which is
// none since Unicode 6.3.
constexpr std::string_view kSpaces =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
constexpr std::string_view kControls = "\\x{0}-\\x{1f}\\x{7f}-\\x{9f}";

struct NewRange {
  std::string_view property;  // a category, a script, ...
  char32_t first;
  char32_t last;
};

// What PCRE2 lacks of each property. A newer one has it twice, which changes
// nothing.
constexpr NewRange kNew[] = {
#define REFERENCE_HAS(property, first, last)
#define REFERENCE_LACKS(property, first, last)
#define REFERENCE_LOWERS(upper, lower)
#define REGEX_HAS(category, first, last) {#category, first, last},
#define REGEX_SCRIPT(name, code)
#include "model/tokenizer/unicode_tables.inc"
#undef REFERENCE_HAS
#undef REFERENCE_LACKS
#undef REFERENCE_LOWERS
#undef REGEX_HAS
#undef REGEX_SCRIPT
};

struct Script {
  std::string_view name;
  std::string_view code;
};

constexpr Script kScripts[] = {
#define REFERENCE_HAS(property, first, last)
#define REFERENCE_LACKS(property, first, last)
#define REFERENCE_LOWERS(upper, lower)
#define REGEX_HAS(category, first, last)
#define REGEX_SCRIPT(name, code) {#name, #code},
#include "model/tokenizer/unicode_tables.inc"
#undef REFERENCE_HAS
#undef REFERENCE_LACKS
#undef REFERENCE_LOWERS
#undef REGEX_HAS
#undef REGEX_SCRIPT
};

struct Category {
  std::string_view name;
  std::string_view long_name;
};

constexpr Category kCategories[] = {{"L", "letter"},
                                    {"Lu", "uppercaseletter"},
                                    {"Ll", "lowercaseletter"},
                                    {"Lt", "titlecaseletter"},
                                    {"Lm", "modifierletter"},
                                    {"Lo", "otherletter"},
                                    {"M", "mark"},
                                    {"M", "combiningmark"},
                                    {"Mn", "nonspacingmark"},
                                    {"Mc", "spacingmark"},
                                    {"Me", "enclosingmark"},
                                    {"N", "number"},
                                    {"Nd", "decimalnumber"},
                                    {"Nd", "digit"},
                                    {"Nl", "letternumber"},
                                    {"No", "othernumber"},
                                    {"P", "punctuation"},
                                    {"P", "punct"},
                                    {"Pc", "connectorpunctuation"},
                                    {"Pd", "dashpunctuation"},
                                    {"Ps", "openpunctuation"},
                                    {"Pe", "closepunctuation"},
                                    {"Pi", "initialpunctuation"},
                                    {"Pf", "finalpunctuation"},
                                    {"Po", "otherpunctuation"},
                                    {"S", "symbol"},
                                    {"Sm", "mathsymbol"},
                                    {"Sc", "currencysymbol"},
                                    {"Sk", "modifiersymbol"},
                                    {"So", "othersymbol"},
                                    {"Z", "separator"},
                                    {"Zs", "spaceseparator"},
                                    {"Zl", "lineseparator"},
                                    {"Zp", "paragraphseparator"},
                                    {"Cc", "control"},
                                    {"Cc", "cntrl"},
                                    {"Cf", "format"},
                                    {"Co", "privateuse"}};

void AppendNew(std::string_view property, OnigSet& set) {
  for (const NewRange& range : kNew) {
    if (range.property == property) set.AddRange(range.first, range.last);
  }
}

// "\p{Lu}" with what is new in the category, or in the group of categories that
// one letter names.
OnigSet CategorySet(std::string_view name) {
  OnigSet set;
  if (name == "Mn") {
    // U+1171E left it after PCRE2's Unicode; no set can leave a member out.
    set.others.push_back("(?!\\x{1171e})\\p{Mn}");
  } else {
    set.members = StrCat("\\p{", name, "}");
  }
  if (name.size() == 2) {
    AppendNew(name, set);
  } else {
    for (const char second : std::string_view("ultmoncdsepifk")) {
      AppendNew(StrCat(name, std::string(1, second)), set);
    }
  }
  // A letter may be a mark in the other case, and a symbol a letter.
  set.has_wide_cases = name[0] == 'L' || name[0] == 'M' || name[0] == 'S';
  return set;
}

OnigSet CategoriesSet(std::initializer_list<std::string_view> names) {
  OnigSet set;
  for (const std::string_view name : names) set.Add(CategorySet(name));
  return set;
}

OnigSet SetOf(std::string_view members) {
  OnigSet set;
  set.members = std::string(members);
  return set;
}

OnigSet Negated(OnigSet set) {
  set.negated = !set.negated;
  return set;
}

// A property that is neither a category nor a script.
OnigSet BinarySet(std::string_view name) {
  OnigSet set = SetOf(StrCat("\\p{", name, "}"));
  AppendNew(name, set);
  set.has_wide_cases = true;
  return set;
}

OnigSet AlphabeticSet() {
  OnigSet set = BinarySet("Alphabetic");
  set.Add(CategoriesSet({"L", "Nl"}));
  return set;
}

OnigSet AssignedSet() {
  return CategoriesSet({"L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Co"});
}

// All that shows: assigned, but no space and no control.
OnigSet GraphSet() {
  return Intersection(
      {AssignedSet(), Negated(SetOf(StrCat(kSpaces, kControls)))});
}

// Names differ by neither case nor spaces, '-' and '_'.
std::string Plain(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c == ' ' || c == '-' || c == '_') continue;
    plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  }
  return plain;
}

// What is the same in \p{} and in [::].
std::optional<OnigSet> CommonSet(std::string_view plain) {
  if (plain == "alnum") {
    OnigSet set = AlphabeticSet();
    set.Add(DigitSet());
    return set;
  }
  if (plain == "alpha") return AlphabeticSet();
  if (plain == "blank") {
    OnigSet set = CategorySet("Zs");
    set.members += "\\x{9}";
    return set;
  }
  if (plain == "cntrl") return SetOf(kControls);
  if (plain == "digit") return DigitSet();
  if (plain == "graph") return GraphSet();
  if (plain == "lower") return BinarySet("Lowercase");
  if (plain == "print") {
    OnigSet set = GraphSet();
    set.Add(CategorySet("Zs"));
    return set;
  }
  if (plain == "space") return SpaceSet();
  if (plain == "upper") return BinarySet("Uppercase");
  if (plain == "xdigit") return HexSet();
  if (plain == "word") return WordSet(true);
  if (plain == "ascii") return SetOf("\\x{0}-\\x{7f}");
  return std::nullopt;
}

}  // namespace

void OnigSet::AddRange(char32_t first, char32_t last) {
  members += CharacterPattern(first);
  if (first != last) members += StrCat("-", CharacterPattern(last));
  has_wide_cases |= last >= 0x80;
}

void OnigSet::Add(const OnigSet& part) {
  has_wide_cases |= part.has_wide_cases;
  if (part.negated) {
    others.push_back(PatternOf(part));
    return;
  }
  members += part.members;
  others.insert(others.end(), part.others.begin(), part.others.end());
}

std::string PatternOf(const OnigSet& set) {
  if (set.others.empty()) {
    return StrCat(set.negated ? "[^" : "[", set.members, "]");
  }
  std::string any;
  if (!set.members.empty()) any = StrCat("[", set.members, "]");
  for (const std::string& other : set.others) {
    if (!any.empty()) any += "|";
    any += other;
  }
  if (set.negated) return StrCat("(?:(?!", any, ")(?s:.))");
  // Atomic: a character that several of them match must not be tried again for
  // each, which would take 2^n ways for n characters.
  return StrCat("(?>", any, ")");
}

OnigSet Intersection(const std::vector<OnigSet>& sets) {
  OnigSet all;
  std::string pattern;
  for (const OnigSet& set : sets) {
    all.has_wide_cases |= set.has_wide_cases;
    // An empty one holds nothing, and "[]" is no set of PCRE2.
    const bool empty = set.members.empty() && set.others.empty();
    const std::string part = empty ? "(?!)" : PatternOf(set);
    const bool last = &set == &sets.back();
    pattern += last ? part : StrCat("(?=", part, ")");
  }
  all.others.push_back(StrCat("(?:", pattern, ")"));
  return all;
}

OnigSet SpaceSet() { return SetOf(kSpaces); }
OnigSet DigitSet() { return CategorySet("Nd"); }
OnigSet HexSet() { return SetOf("0-9a-fA-F"); }

// Alphabetic, which comes with all letters, and marks, digits and connectors.
OnigSet WordSet(bool in_set) {
  OnigSet set = SetOf("\\p{Alphabetic}\\p{Pc}");
  set.Add(CategoriesSet({"L", "M", "Nd", "Nl"}));
  // Outside of sets Oniguruma takes these numbers of Latin-1 along.
  if (!in_set) set.members += "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
  return set;
}

std::optional<OnigSet> PropertySet(std::string_view name, bool in_set) {
  const std::string plain = Plain(name);
  for (const Category& category : kCategories) {
    if (plain == Plain(category.name) || plain == category.long_name) {
      return CategorySet(category.name);
    }
  }
  for (const Script& script : kScripts) {
    if (plain != script.name && plain != script.code) continue;
    // PCRE2's plain names are those of script extensions, which are wider.
    OnigSet set = SetOf(StrCat("\\p{sc:", script.name, "}"));
    AppendNew(script.name, set);
    set.has_wide_cases = true;
    return set;
  }
  if (plain == "alphabetic") return AlphabeticSet();
  if (plain == "lowercase") return BinarySet("Lowercase");
  if (plain == "uppercase") return BinarySet("Uppercase");
  if (plain == "whitespace") return SpaceSet();
  if (plain == "lc" || plain == "casedletter") {
    return CategoriesSet({"Lu", "Ll", "Lt"});
  }
  if (plain == "any") return SetOf("\\x{0}-\\x{10ffff}");
  if (plain == "assigned") return AssignedSet();
  if (plain == "cn" || plain == "unassigned") return Negated(AssignedSet());
  if (plain == "c" || plain == "other") {
    return Negated(CategoriesSet({"L", "M", "N", "P", "S", "Z"}));
  }
  if (plain == "word") return WordSet(in_set);
  return CommonSet(plain);
}

std::optional<OnigSet> BracketSet(std::string_view name) {
  if (name == "punct") return CategoriesSet({"P", "S"});
  return CommonSet(name);
}

std::string CharacterPattern(char32_t c) {
  return absl::StrFormat("\\x{%x}", static_cast<uint32_t>(c));
}

std::string RustWordCharacters() {
  return StrCat(WordSet(true).members, "\\x{200c}\\x{200d}");
}

std::string WhiteSpaceCharacters() { return std::string(kSpaces); }

}  // namespace ounce::model
