#include "model/tokenizer/onig_characters.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"
#include "model/tokenizer/onig_tree.h"

namespace ounce::model {

bool OnigCharacters::Take(std::string_view text) {
  if (!rest_.starts_with(text)) return false;
  rest_.remove_prefix(text.size());
  return true;
}

absl::Status OnigCharacters::RefuseNext(size_t bytes) const {
  return RefusePattern(Quoted(rest_.substr(0, bytes)));
}

absl::StatusOr<std::optional<OnigSet>> OnigCharacters::ReadSetEscape(
    bool in_set) {
  if (rest_.size() < 2) return RefusePattern("'\\' at the end");
  const char kind = rest_[1];
  OnigSet set;
  switch (kind) {
    case 's':
    case 'S':
      set = SpaceSet();
      break;
    case 'd':
    case 'D':
      set = DigitSet();
      break;
    case 'w':
    case 'W':
      set = WordSet(in_set);
      break;
    case 'h':
    case 'H':
      set = HexSet();
      break;
    case 'p':
    case 'P': {
      if (!rest_.substr(2).starts_with("{")) return std::optional<OnigSet>();
      ASSIGN_OR_RETURN(set, ReadProperty(in_set));
      break;
    }
    default:
      return std::optional<OnigSet>();
  }
  if (kind != 'p' && kind != 'P') rest_.remove_prefix(2);
  if (kind >= 'A' && kind <= 'Z') set.negated = !set.negated;
  return std::optional<OnigSet>(std::move(set));
}

absl::StatusOr<OnigSet> OnigCharacters::ReadProperty(bool in_set) {
  const size_t close = rest_.find('}');
  if (close == rest_.npos) return NoPattern("a '{' is not closed");
  std::string_view name = rest_.substr(3, close - 3);
  const bool negated = name.starts_with("^");
  if (negated) name.remove_prefix(1);
  std::optional<OnigSet> set = PropertySet(name, in_set);
  if (!set.has_value()) {
    return RefusePattern(StrCat("property ", Quoted(name)));
  }
  set->negated = set->negated != negated;
  rest_.remove_prefix(close + 1);
  return *std::move(set);
}

absl::StatusOr<char32_t> OnigCharacters::ReadEscape(bool in_set) {
  constexpr std::pair<char, char> kControls[] = {
      {'n', '\n'}, {'t', '\t'}, {'r', '\r'},  {'f', '\f'},
      {'v', '\v'}, {'a', '\a'}, {'e', '\x1b'}};
  if (rest_.size() < 2) return RefusePattern("'\\' at the end");
  const char kind = rest_[1];
  for (const auto& [letter, control] : kControls) {
    if (kind != letter) continue;
    rest_.remove_prefix(2);
    return static_cast<char32_t>(control);
  }
  if (in_set && kind == 'b') {
    rest_.remove_prefix(2);
    return U'\b';
  }
  if (kind == 'x' || kind == 'u') return ReadHex();
  if (kind == '0') return ReadOctal();
  if (kind == 'c') return ReadControl();
  const std::string_view refused = in_set ? "CMo" : "CGMoXyY";
  if ((kind >= '0' && kind <= '9') || refused.find(kind) != refused.npos) {
    return RefuseNext(2);
  }
  // Other letters stand for themselves.
  const Utf8Sequence c = FirstUtf8Sequence(rest_.substr(1));
  rest_.remove_prefix(1 + c.length);
  return c.code_point;
}

char32_t OnigCharacters::ReadOctal() {
  char32_t c = 0;
  size_t at = 2;
  for (; at < 4 && at < rest_.size(); ++at) {
    if (rest_[at] < '0' || rest_[at] > '7') break;
    c = 8 * c + static_cast<char32_t>(rest_[at] - '0');
  }
  rest_.remove_prefix(at);
  return c;
}

absl::StatusOr<char32_t> OnigCharacters::ReadControl() {
  if (rest_.size() < 3 || rest_[2] == '\\' || rest_[2] < ' ') {
    return RefuseNext(std::min<size_t>(rest_.size(), 3));
  }
  const char c = rest_[2];
  rest_.remove_prefix(3);
  return c == '?' ? U'\x7f' : static_cast<char32_t>(c & 0x1f);
}

absl::StatusOr<char32_t> OnigCharacters::ReadHex() {
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
    return RefuseNext(10);
  }
  rest_.remove_prefix(length);
  return static_cast<char32_t>(c);
}

absl::StatusOr<OnigSet> OnigCharacters::ReadSet() {
  if (++depth_ > kMaxOnigDepth) return RefusePattern("such deep nesting");
  rest_.remove_prefix(1);
  OnigSet set;
  const bool negated = Take("^");
  bool first = true;
  std::vector<OnigSet> intersected;  // what stands before each "&&"
  while (first || !rest_.starts_with("]")) {
    if (rest_.empty()) return NoPattern("a '[' is not closed");
    // The first one is a member, if another one follows.
    if (first && rest_.starts_with("]") && !HasAnotherBracket()) {
      return NoPattern("nothing is in '[]'");
    }
    first = false;
    if (Take("&&")) {
      intersected.push_back(std::move(set));
      set = OnigSet();
      continue;
    }
    RETURN_IF_ERROR(Member(set));
  }
  rest_.remove_prefix(1);
  --depth_;
  if (!intersected.empty()) {
    intersected.push_back(std::move(set));
    set = Intersection(intersected);
  }
  set.negated = negated;
  return set;
}

bool OnigCharacters::HasAnotherBracket() const {
  for (size_t at = 1; at < rest_.size(); ++at) {
    if (rest_[at] == '\\') {
      ++at;
    } else if (rest_[at] == ']') {
      return true;
    }
  }
  return false;
}

absl::Status OnigCharacters::Add(const OnigSet& part, OnigSet& set) {
  set.Add(part);
  set_bytes_ += part.members.size();
  if (set_bytes_ > kMaxOnigSetBytes) return RefusePattern("so long a pattern");
  return absl::OkStatus();
}

absl::Status OnigCharacters::Member(OnigSet& set) {
  if (rest_.starts_with("[:")) return Bracket(set);
  if (rest_[0] == '[') {
    ASSIGN_OR_RETURN(const OnigSet part, ReadSet());
    return Add(part, set);
  }
  if (rest_[0] == '\\') {
    ASSIGN_OR_RETURN(const std::optional<OnigSet> part, ReadSetEscape(true));
    if (part.has_value()) {
      RETURN_IF_ERROR(CheckNoRange());
      return Add(*part, set);
    }
  }
  ASSIGN_OR_RETURN(const char32_t first, MemberCharacter());
  if (rest_.size() < 2 || rest_[0] != '-' || rest_[1] == ']' ||
      rest_.starts_with("-&&")) {
    set.AddRange(first, first);
    return absl::OkStatus();
  }
  rest_.remove_prefix(1);
  if (rest_[0] == '[') return RefusePattern("a range that ends with a set");
  if (rest_[0] == '\\') {
    // "a-\s" would be three members.
    const std::string_view before = rest_;
    ASSIGN_OR_RETURN(const std::optional<OnigSet> part, ReadSetEscape(true));
    if (part.has_value()) {
      return RefusePattern("a range that ends with a set");
    }
    rest_ = before;
  }
  ASSIGN_OR_RETURN(const char32_t last, MemberCharacter());
  if (last < first) return NoPattern("a range ends before it begins");
  set.AddRange(first, last);
  return absl::OkStatus();
}

absl::Status OnigCharacters::Bracket(OnigSet& set) {
  const size_t close = rest_.find(":]");
  const std::string_view inside =
      close == rest_.npos ? std::string_view() : rest_.substr(2, close - 2);
  const bool negated = inside.starts_with("^");
  std::optional<OnigSet> part = BracketSet(inside.substr(negated ? 1 : 0));
  if (!part.has_value()) return RefuseNext(2);
  rest_.remove_prefix(close + 2);
  part->negated = part->negated != negated;
  RETURN_IF_ERROR(CheckNoRange());
  return Add(*part, set);
}

absl::Status OnigCharacters::CheckNoRange() const {
  if (rest_.size() < 2 || rest_[0] != '-' || rest_[1] == ']') {
    return absl::OkStatus();
  }
  return RefusePattern("a range that begins with a set");
}

absl::StatusOr<char32_t> OnigCharacters::MemberCharacter() {
  if (rest_[0] == '\\') return ReadEscape(true);
  const Utf8Sequence c = FirstUtf8Sequence(rest_);
  rest_.remove_prefix(c.length);
  return c.code_point;
}

}  // namespace ounce::model
