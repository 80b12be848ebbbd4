#include "model/tokenizer/onig_pattern.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"

namespace ounce::model {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
constexpr int kMaxDepth = 32;
// What its properties become together: some kilobytes each, of which PCRE2
// takes a few dozen.
constexpr size_t kMaxPropertyBytes = 1 << 20;

// Unicode's White_Space. Spelled out because PCRE2's \s has U+180E, which is
// none since Unicode 6.3.
constexpr std::string_view kSpaces =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

struct NewRange {
  std::string_view property;  // a category or a script
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
#include "model/tokenizer/unicode_tables.inc"
#undef REFERENCE_HAS
#undef REFERENCE_LACKS
#undef REFERENCE_LOWERS
#undef REGEX_HAS
};

void AppendRange(char32_t first, char32_t last, std::string& members) {
  members += absl::StrFormat("\\x{%x}", static_cast<uint32_t>(first));
  if (first != last) {
    members += absl::StrFormat("-\\x{%x}", static_cast<uint32_t>(last));
  }
}

void AppendNew(std::string_view property, std::string& members) {
  for (const NewRange& range : kNew) {
    if (range.property == property) {
      AppendRange(range.first, range.last, members);
    }
  }
}

// "\p{Lu}" with what is new in the category, or in the group of categories that
// one letter names.
std::string CategoryMembers(std::string_view name) {
  std::string members = StrCat("\\p{", name, "}");
  if (name.size() == 2) {
    AppendNew(name, members);
    return members;
  }
  for (const char second : std::string_view("ultmoncdsepifk")) {
    AppendNew(StrCat(name, std::string(1, second)), members);
  }
  return members;
}

// Alphabetic, which comes with all letters, and marks, digits and connectors.
std::string WordMembers() {
  std::string members = "\\p{Alphabetic}\\p{Pc}";
  for (const char* name : {"L", "M", "Nd", "Nl"}) {
    members += CategoryMembers(name);
  }
  return members;
}

bool IsCategory(std::string_view name) {
  constexpr std::string_view kNames[] = {
      "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N", "Nd",
      "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm",
      "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "Cc", "Cf", "Co"};
  return std::find(std::begin(kNames), std::end(kNames), name) !=
         std::end(kNames);
}

// Scripts that published patterns name. PCRE2's plain names are those of script
// extensions, which are wider.
std::optional<std::string> ScriptMembers(std::string_view name) {
  constexpr std::string_view kNames[] = {
      "Arabic",   "Armenian", "Bengali", "Cyrillic", "Devanagari",
      "Georgian", "Greek",    "Han",     "Hangul",   "Hebrew",
      "Hiragana", "Katakana", "Khmer",   "Lao",      "Latin",
      "Myanmar",  "Tamil",    "Thai",    "Tibetan"};
  if (std::find(std::begin(kNames), std::end(kNames), name) ==
      std::end(kNames)) {
    return std::nullopt;
  }
  std::string members = StrCat("\\p{sc:", name, "}");
  AppendNew(name, members);
  return members;
}

// The characters that one place of a pattern may match.
struct Set {
  std::string members;  // of a set in PCRE2's syntax
  // Whole sub-patterns of one character each, for what can't be a member.
  std::vector<std::string> others;
  bool negated = false;
};

std::string Emit(const Set& set) {
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

class Translator {
 public:
  explicit Translator(std::string_view pattern) : rest_(pattern) {}

  absl::StatusOr<std::string> Run() {
    RETURN_IF_ERROR(Alternatives(false));
    if (!rest_.empty()) return Refuse("')' without '('");
    return std::move(out_);
  }

 private:
  absl::Status Refuse(std::string_view what) const {
    return absl::UnimplementedError(
        StrCat("regular expression: ", what, " is not supported"));
  }

  bool Take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  // What comes up to ')' or the end.
  absl::Status Alternatives(bool ignore_case) {
    if (++depth_ > kMaxDepth) return Refuse("such deep nesting");
    char32_t previous = 0;  // a literal letter, for pairs that fold to one
    while (!rest_.empty() && rest_[0] != ')') {
      const char c = rest_[0];
      const char32_t before = std::exchange(previous, 0);
      if (c == '(') {
        RETURN_IF_ERROR(Group(ignore_case));
      } else if (c == '[') {
        ASSIGN_OR_RETURN(const Set set, ReadSet());
        out_ += Emit(set);
      } else if (c == '\\') {
        RETURN_IF_ERROR(Escape());
      } else if (c == '{') {
        RETURN_IF_ERROR(Interval());
      } else {
        const Utf8Sequence letter = FirstUtf8Sequence(rest_);
        if (ignore_case) {
          RETURN_IF_ERROR(CheckFolding(before, letter.code_point));
        }
        previous = letter.code_point;
        out_ += rest_.substr(0, letter.length);
        rest_.remove_prefix(letter.length);
      }
    }
    --depth_;
    return absl::OkStatus();
  }

  // Oniguruma sees one letter in two (ß in "ss") where case doesn't matter.
  absl::Status CheckFolding(char32_t before, char32_t c) const {
    if (c >= 0x80) return Refuse("a letter beyond ASCII in (?i:)");
    const std::string pair = {static_cast<char>(before | 0x20),
                              static_cast<char>(c | 0x20)};
    for (const char* folded : {"ss", "ff", "fi", "fl", "st"}) {
      if (pair == folded) {
        return Refuse(StrCat("\"", folded, "\" in (?i:)"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Group(bool ignore_case) {
    bool inner_case = ignore_case;
    if (Take("(?:") ||
        (rest_.starts_with("(") && !rest_.starts_with("(?") && Take("("))) {
      out_ += "(?:";
    } else if (Take("(?i:")) {
      out_ += "(?i:";
      inner_case = true;
    } else if (Take("(?m:")) {
      out_ += "(?s:";
    } else if (Take("(?i)")) {
      // To the end of the group around it, alternatives too.
      out_ += "(?i:";
      RETURN_IF_ERROR(Alternatives(true));
      out_ += ")";
      return absl::OkStatus();
    } else {
      bool known = false;
      for (const char* opening : {"(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
        if (!Take(opening)) continue;
        out_ += opening;
        known = true;
        break;
      }
      if (!known) {
        return Refuse(
            Quoted(rest_.substr(0, std::min<size_t>(rest_.size(), 4))));
      }
    }
    RETURN_IF_ERROR(Alternatives(inner_case));
    if (!Take(")")) {
      return absl::InvalidArgumentError(
          "regular expression: a '(' is not closed");
    }
    out_ += ")";
    return absl::OkStatus();
  }

  // {n}, {n,}, {,n} or {n,m}, with '?' behind if lazy; else a brace is a brace.
  absl::Status Interval() {
    const size_t close = rest_.find('}');
    const std::string_view inside =
        close == rest_.npos ? std::string_view() : rest_.substr(1, close - 1);
    const bool digits = !inside.empty() && inside != "," &&
                        std::all_of(inside.begin(), inside.end(),
                                    [](char c) {
                                      return (c >= '0' && c <= '9') || c == ',';
                                    }) &&
                        std::count(inside.begin(), inside.end(), ',') <= 1;
    if (!digits) {
      out_ += "\\{";
      rest_.remove_prefix(1);
      return absl::OkStatus();
    }
    out_ += StrCat("{", inside[0] == ',' ? "0" : "", inside, "}");
    rest_.remove_prefix(close + 1);
    if (rest_.starts_with("+")) return Refuse("'+' behind '}'");
    if (rest_.starts_with("?") && inside.find(',') == inside.npos) {
      return Refuse("'?' behind '{n}'");
    }
    return absl::OkStatus();
  }

  absl::Status Escape() {
    for (const char* same : {"\\A", "\\z", "\\Z"}) {
      if (Take(same)) {
        out_ += same;
        return absl::OkStatus();
      }
    }
    ASSIGN_OR_RETURN(const std::optional<Set> set, ReadSetEscape(false));
    if (set.has_value()) {
      out_ += Emit(*set);
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const char32_t c, ReadCharacterEscape());
    AppendRange(c, c, out_);
    return absl::OkStatus();
  }

  // \s, \P{L} and their like; nothing for another escape.
  absl::StatusOr<std::optional<Set>> ReadSetEscape(bool in_set) {
    if (rest_.size() < 2) return Refuse("'\\' at the end");
    const char kind = rest_[1];
    Set set;
    switch (kind) {
      case 's':
      case 'S':
        set.members = std::string(kSpaces);
        break;
      case 'd':
      case 'D':
        set.members = CategoryMembers("Nd");
        break;
      case 'w':
      case 'W':
        set.members = WordMembers();
        // Outside of sets Oniguruma takes these numbers of Latin-1 along.
        if (!in_set) set.members += "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
        break;
      case 'h':
      case 'H':
        set.members = "0-9a-fA-F";
        break;
      case 'p':
      case 'P':
        break;
      default:
        return std::optional<Set>();
    }
    if (kind == 'p' || kind == 'P') {
      ASSIGN_OR_RETURN(set, ReadProperty());
    } else {
      set.negated = kind >= 'A' && kind <= 'Z';
      rest_.remove_prefix(2);
    }
    property_bytes_ += set.members.size();
    if (property_bytes_ > kMaxPropertyBytes) return Refuse("so long a pattern");
    return std::optional<Set>(std::move(set));
  }

  absl::StatusOr<Set> ReadProperty() {
    Set set;
    set.negated = rest_[1] == 'P';
    const size_t close = rest_.find('}');
    if (rest_.size() < 3 || rest_[2] != '{' || close == rest_.npos) {
      return Refuse("'\\p' without braces");
    }
    std::string_view name = rest_.substr(3, close - 3);
    if (name.starts_with("^")) {
      set.negated = !set.negated;
      name.remove_prefix(1);
    }
    if (IsCategory(name)) {
      set.members = CategoryMembers(name);
    } else if (const auto script = ScriptMembers(name)) {
      set.members = *script;
    } else {
      return Refuse(StrCat("property ", Quoted(name)));
    }
    rest_.remove_prefix(close + 1);
    return set;
  }

  // "\n", "\x0a", "\u3000", "\." and their like.
  absl::StatusOr<char32_t> ReadCharacterEscape() {
    constexpr std::pair<char, char> kControls[] = {
        {'n', '\n'}, {'t', '\t'}, {'r', '\r'},  {'f', '\f'},
        {'v', '\v'}, {'a', '\a'}, {'e', '\x1b'}};
    const char kind = rest_[1];
    for (const auto& [letter, control] : kControls) {
      if (kind != letter) continue;
      rest_.remove_prefix(2);
      return static_cast<char32_t>(control);
    }
    if (kind == 'x' || kind == 'u') return ReadHex();
    if ((kind >= '0' && kind <= '9') || (kind >= 'a' && kind <= 'z') ||
        (kind >= 'A' && kind <= 'Z')) {
      return Refuse(Quoted(rest_.substr(0, 2)));
    }
    const Utf8Sequence c = FirstUtf8Sequence(rest_.substr(1));
    rest_.remove_prefix(1 + c.length);
    return c.code_point;
  }

  absl::StatusOr<char32_t> ReadHex() {
    std::string_view digits;
    size_t length = 0;
    if (rest_[1] == 'x' && rest_.size() > 2 && rest_[2] == '{') {
      const size_t close = std::min(rest_.find('}'), rest_.size());
      digits = rest_.substr(3, close - 3);
      length = close + 1;
    } else {
      length = rest_[1] == 'x' ? 4 : 6;
      if (rest_.size() >= length) digits = rest_.substr(2, length - 2);
    }
    uint32_t c = 0;
    // A byte of UTF-8, "\xE4", is no character to Oniguruma.
    const bool is_byte = rest_[1] == 'x' && length == 4;
    if (digits.empty() || digits.size() > 8 || length > rest_.size() ||
        !absl::SimpleHexAtoi(ToAbsl(digits), &c) || c > 0x10ffff ||
        (c >= 0xd800 && c < 0xe000) || (is_byte && c >= 0x80)) {
      return Refuse(
          Quoted(rest_.substr(0, std::min<size_t>(rest_.size(), 10))));
    }
    rest_.remove_prefix(length);
    return static_cast<char32_t>(c);
  }

  // From '[' to its ']'.
  absl::StatusOr<Set> ReadSet() {
    if (++depth_ > kMaxDepth) return Refuse("such deep nesting");
    rest_.remove_prefix(1);
    Set set;
    const bool negated = Take("^");
    if (rest_.starts_with("]")) return Refuse("']' first in a set");
    std::vector<Set> intersected;  // what stands before each "&&"
    while (!Take("]")) {
      if (rest_.empty()) {
        return absl::InvalidArgumentError(
            "regular expression: a '[' is not closed");
      }
      if (Take("&&")) {
        intersected.push_back(std::move(set));
        set = Set();
        continue;
      }
      RETURN_IF_ERROR(Member(set));
    }
    --depth_;
    if (intersected.empty()) {
      set.negated = negated;
      return set;
    }
    std::string all;
    for (const Set& part : intersected) {
      if (part.members.empty() && part.others.empty()) {
        return Refuse("'&&' without a set before it");
      }
      all += StrCat("(?=", Emit(part), ")");
    }
    if (set.members.empty() && set.others.empty()) {
      return Refuse("'&&' without a set behind it");
    }
    Set result;
    result.negated = negated;
    result.others.push_back(StrCat("(?:", all, Emit(set), ")"));
    return result;
  }

  static void Unite(const Set& part, Set& set) {
    if (part.negated) {
      set.others.push_back(Emit(part));
      return;
    }
    set.members += part.members;
    set.others.insert(set.others.end(), part.others.begin(), part.others.end());
  }

  absl::Status Member(Set& set) {
    if (rest_.starts_with("[:")) return Refuse("'[:'");
    if (rest_[0] == '[') {
      ASSIGN_OR_RETURN(const Set part, ReadSet());
      Unite(part, set);
      return absl::OkStatus();
    }
    if (rest_[0] == '\\') {
      ASSIGN_OR_RETURN(const std::optional<Set> part, ReadSetEscape(true));
      if (part.has_value()) {
        Unite(*part, set);
        return absl::OkStatus();
      }
    }
    ASSIGN_OR_RETURN(const char32_t first, MemberCharacter());
    if (rest_.size() < 2 || rest_[0] != '-' || rest_[1] == ']') {
      AppendRange(first, first, set.members);
      return absl::OkStatus();
    }
    rest_.remove_prefix(1);
    if (rest_[0] == '[' || rest_.starts_with("&&")) {
      return Refuse("a range that ends with a set");
    }
    if (rest_[0] == '\\') {
      // "a-\s" would be three members.
      const std::string_view before = rest_;
      ASSIGN_OR_RETURN(const std::optional<Set> part, ReadSetEscape(true));
      if (part.has_value()) return Refuse("a range that ends with a set");
      rest_ = before;
    }
    ASSIGN_OR_RETURN(const char32_t last, MemberCharacter());
    if (last < first) {
      return absl::InvalidArgumentError(
          "regular expression: a range ends before it begins");
    }
    AppendRange(first, last, set.members);
    return absl::OkStatus();
  }

  absl::StatusOr<char32_t> MemberCharacter() {
    if (rest_[0] == '\\') return ReadCharacterEscape();
    const Utf8Sequence c = FirstUtf8Sequence(rest_);
    rest_.remove_prefix(c.length);
    return c.code_point;
  }

  std::string_view rest_;
  std::string out_;
  int depth_ = 0;
  size_t property_bytes_ = 0;  // so far
};

}  // namespace

absl::StatusOr<std::string> FromOnigPattern(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        StrCat("regular expression: must have at most ", kMaxPatternBytes,
               " bytes, has ", pattern.size()));
  }
  return Translator(pattern).Run();
}

std::string RustWordCharacters() {
  return StrCat(WordMembers(), "\\x{200c}\\x{200d}");
}

std::string WhiteSpaceCharacters() { return std::string(kSpaces); }

}  // namespace ounce::model
