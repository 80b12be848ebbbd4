#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"
#include "model/tokenizer/onig_characters.h"
#include "model/tokenizer/onig_repeats.h"
#include "model/tokenizer/onig_set.h"
#include "model/tokenizer/onig_tree.h"

namespace ounce::model {
namespace {

using Kind = OnigNode::Kind;

constexpr int kMaxRepeat = 65535;  // PCRE2's; Oniguruma's is 100,000

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

OnigNode Text(std::string text) {
  OnigNode node;
  node.kind = Kind::kText;
  node.text = std::move(text);
  return node;
}

OnigNode Around(Kind kind, std::string_view opening, OnigNode inner) {
  OnigNode node;
  node.kind = kind;
  node.text = std::string(opening);
  node.children.push_back(std::move(inner));
  return node;
}

class Parser {
 public:
  explicit Parser(std::string_view pattern)
      : rest_(pattern), characters_(rest_) {}

  absl::StatusOr<OnigTree> Run() {
    OnigTree tree;
    ASSIGN_OR_RETURN(OnigNode all, Alternatives({}));
    if (!rest_.empty()) return RefusePattern("')' without '('");
    RETURN_IF_ERROR(CheckNumbers());
    RETURN_IF_ERROR(ResolveCalls(all));
    tree.root = Around(Kind::kCapture, "", std::move(all));
    tree.num_groups = num_groups_;
    tree.has_names = !names_.empty();
    return tree;
  }

 private:
  // What a reference names: a number, or the groups of a name.
  struct Reference {
    std::string name;
    int number = 0;  // if there is no name
  };

  bool Take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  absl::Status RefuseNext(size_t bytes) const {
    return RefusePattern(Quoted(rest_.substr(0, bytes)));
  }

  // What comes up to ')' or the end.
  absl::StatusOr<OnigNode> Alternatives(OnigOptions options) {
    if (++depth_ > kMaxOnigDepth) return RefusePattern("such deep nesting");
    OnigNode all;
    all.kind = Kind::kAlternatives;
    do {
      ASSIGN_OR_RETURN(all.children.emplace_back(), Sequence(options));
    } while (Take("|"));
    --depth_;
    if (all.children.size() > 1) return all;
    OnigNode only = std::move(all.children[0]);
    return only;
  }

  absl::StatusOr<OnigNode> Sequence(OnigOptions options) {
    OnigNode all;
    for (;;) {
      RETURN_IF_ERROR(SkipComments(options));
      if (rest_.empty() || rest_[0] == ')' || rest_[0] == '|') break;
      const char32_t before = std::exchange(previous_, 0);
      ASSIGN_OR_RETURN(OnigNode item, Item(options, before));
      RETURN_IF_ERROR(SkipComments(options));
      bool once = false;
      for (int num_repeats = 0; !rest_.empty(); ++num_repeats) {
        if (num_repeats > kMaxOnigDepth)
          return RefusePattern("such deep nesting");
        ASSIGN_OR_RETURN(const std::optional<OnigRepeat> repeat, ReadRepeat());
        if (!repeat.has_value()) break;
        // Oniguruma repeats the last character alone then.
        if (once && item.kind == Kind::kSequence) {
          return RefusePattern("a repeat behind (?:ab){1}");
        }
        // What comes once is no repeat.
        once = repeat->min == 1 && repeat->max == 1;
        if (!once) previous_ = 0;
        ASSIGN_OR_RETURN(item, Repeated(std::move(item), *repeat));
        RETURN_IF_ERROR(SkipComments(options));
      }
      all.children.push_back(std::move(item));
    }
    if (all.children.size() != 1) return all;
    OnigNode only = std::move(all.children[0]);
    return only;
  }

  // What means nothing: comments, and white space of an extended pattern.
  absl::Status SkipComments(OnigOptions options) {
    for (;;) {
      if (Take("(?#")) {
        for (;;) {
          if (rest_.empty()) return NoPattern("a '(' is not closed");
          if (Take(")")) break;
          if (rest_[0] == '\\' && rest_.size() > 1) rest_.remove_prefix(1);
          rest_.remove_prefix(1);
        }
      } else if (options.extended && rest_.starts_with('#')) {
        rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
      } else if (options.extended && !rest_.empty() &&
                 std::string_view(" \t\n\r\f\v").find(rest_[0]) !=
                     std::string_view::npos) {
        rest_.remove_prefix(1);
      } else {
        return absl::OkStatus();
      }
    }
  }

  absl::StatusOr<OnigNode> Item(OnigOptions options, char32_t before) {
    const char c = rest_[0];
    if (c == '(') {
      previous_ = before;
      return Group(options);
    }
    if (c == '[') {
      ASSIGN_OR_RETURN(const OnigSet set, characters_.ReadSet());
      return SetNode(set, options, /*bracketed=*/true);
    }
    if (c == '\\') return Escape(options, before);
    if (c == '*' || c == '+' || c == '?') {
      return NoPattern(
          StrCat("nothing to repeat before '", std::string_view(&c, 1), "'"));
    }
    if (c == '{') {
      const std::string_view text = rest_;
      ASSIGN_OR_RETURN(const std::optional<OnigRepeat> repeat, ReadRepeat());
      if (repeat.has_value()) {
        return NoPattern("nothing to repeat before '{'");
      }
      rest_ = text;
    }
    if (c == '^' || c == '$') {
      rest_.remove_prefix(1);
      return Anchor(std::string(1, c));
    }
    if (c == '.') {
      rest_.remove_prefix(1);
      return Text(".");
    }
    const Utf8Sequence letter = FirstUtf8Sequence(rest_);
    rest_.remove_prefix(letter.length);
    return Literal(letter.code_point, options, before);
  }

  static OnigNode Anchor(std::string text) {
    OnigNode node = Text(std::move(text));
    node.kind = Kind::kAnchor;
    return node;
  }

  absl::StatusOr<OnigNode> Literal(char32_t c, OnigOptions options,
                                   char32_t before) {
    if (options.ignore_case) RETURN_IF_ERROR(CheckFolding(before, c));
    previous_ = c;
    const char ascii = static_cast<char>(c);
    if (c < 0x80 && (IsLetter(ascii) || IsDigit(ascii) || c == ' ')) {
      return Text(std::string(1, ascii));
    }
    return Text(CharacterPattern(c));
  }

  // Oniguruma sees one letter in two (ß in "ss") where case doesn't matter.
  static absl::Status CheckFolding(char32_t before, char32_t c) {
    if (c >= 0x80) return RefusePattern("a letter beyond ASCII in (?i:)");
    const std::string pair = {static_cast<char>(before | 0x20),
                              static_cast<char>(c | 0x20)};
    for (const char* folded : {"ss", "ff", "fi", "fl", "st"}) {
      if (pair == folded) {
        return RefusePattern(StrCat("\"", folded, "\" in (?i:)"));
      }
    }
    return absl::OkStatus();
  }

  // `bracketed`: it was written as [..]; \w and their like know no case.
  absl::StatusOr<OnigNode> SetNode(const OnigSet& set, OnigOptions options,
                                   bool bracketed) {
    if (options.ignore_case && bracketed &&
        (set.has_wide_cases || !set.others.empty())) {
      return RefusePattern("a set of more than ASCII in (?i:)");
    }
    std::string pattern = PatternOf(set);
    set_bytes_ += pattern.size();
    if (set_bytes_ > kMaxOnigSetBytes)
      return RefusePattern("so long a pattern");
    return Text(options.ignore_case && !bracketed
                    ? StrCat("(?-i:", pattern, ")")
                    : std::move(pattern));
  }

  absl::StatusOr<OnigNode> Group(OnigOptions options) {
    if (Take("(?:")) {
      // Nothing but its content, so what is repeated may be that.
      ASSIGN_OR_RETURN(OnigNode inner, Alternatives(options));
      RETURN_IF_ERROR(Close());
      return inner;
    }
    for (const char* opening : {"(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (!Take(opening)) continue;
      previous_ = 0;
      ASSIGN_OR_RETURN(OnigNode inner, Alternatives(options));
      RETURN_IF_ERROR(Close());
      return Around(opening[2] == '>' ? Kind::kGroup : Kind::kLook, opening,
                    std::move(inner));
    }
    if (Take("(?~")) return Absent(options);
    if (Take("(?(")) return Condition(options);
    if (Take("(?<")) return Capture(options, '>');
    if (Take("(?'")) return Capture(options, '\'');
    if (rest_.starts_with("(?")) return Options(options);
    if (rest_.starts_with("(*")) return RefuseNext(4);
    Take("(");
    return Capture(options, '\0');
  }

  absl::Status Close() {
    if (Take(")")) return absl::OkStatus();
    return NoPattern("a '(' is not closed");
  }

  // (?i-m:..), or (?i-m) up to the end of the group around it, alternatives
  // too.
  absl::StatusOr<OnigNode> Options(OnigOptions options) {
    size_t at = 2;
    bool on = true;
    for (; at < rest_.size() && rest_[at] != ':' && rest_[at] != ')'; ++at) {
      const char c = rest_[at];
      if (c == '-') {
        on = false;
      } else if (c == 'i') {
        options.ignore_case = on;
      } else if (c == 'm') {
        options.dot_all = on;
      } else if (c == 'x') {
        options.extended = on;
      } else {
        return RefuseNext(std::min<size_t>(rest_.size(), 4));
      }
    }
    if (at == rest_.size()) return NoPattern("a '(' is not closed");
    const bool whole_group = rest_[at] == ')';
    if (at == 2) return RefuseNext(3);
    rest_.remove_prefix(at + 1);
    ASSIGN_OR_RETURN(OnigNode inner, Alternatives(options));
    if (!whole_group) RETURN_IF_ERROR(Close());
    return Around(Kind::kGroup, OptionsOpening(options), std::move(inner));
  }

  absl::StatusOr<OnigNode> Capture(OnigOptions options, char name_end) {
    const int group = ++num_groups_;
    const bool named = name_end != '\0';
    if (named) {
      ASSIGN_OR_RETURN(const std::string_view name, ReadName(name_end));
      names_[std::string(name)].push_back(group);
    }
    ASSIGN_OR_RETURN(OnigNode inner, Alternatives(options));
    RETURN_IF_ERROR(Close());
    OnigNode node = Around(Kind::kCapture, "", std::move(inner));
    node.group = group;
    node.named = named;
    node.options = options;
    return node;
  }

  // Up to `end`: word characters, the first of them no digit.
  absl::StatusOr<std::string_view> ReadName(char end) {
    const size_t length = rest_.find(end);
    if (length == rest_.npos) return NoPattern("a name is not closed");
    const std::string_view name = rest_.substr(0, length);
    const bool valid = !name.empty() && !IsDigit(name[0]) &&
                       std::all_of(name.begin(), name.end(), [](char c) {
                         return IsLetter(c) || IsDigit(c) || c == '_';
                       });
    if (!valid) return RefusePattern(StrCat("the name ", Quoted(name)));
    rest_.remove_prefix(length + 1);
    return name;
  }

  // Any text without a part that the content matches.
  absl::StatusOr<OnigNode> Absent(OnigOptions options) {
    if (rest_.starts_with("|")) return RefusePattern("'(?~|'");
    if (std::exchange(in_absent_, true)) {
      return RefusePattern("'(?~' in another");
    }
    ASSIGN_OR_RETURN(OnigNode inner, Alternatives(options));
    in_absent_ = false;
    RETURN_IF_ERROR(Close());
    OnigNode step;
    step.children.push_back(Around(Kind::kLook, "(?!", std::move(inner)));
    step.children.push_back(Text("(?s:.)"));
    ASSIGN_OR_RETURN(OnigNode steps,
                     Repeated(std::move(step), {0, OnigNode::kEndless}));
    return Around(Kind::kGroup, "(?:", std::move(steps));
  }

  absl::StatusOr<OnigNode> Condition(OnigOptions options) {
    OnigNode node;
    node.kind = Kind::kCondition;
    OnigNode condition;
    const std::string_view before = rest_;
    if (Take("<") || Take("'")) {
      const char end = before[0] == '<' ? '>' : '\'';
      ASSIGN_OR_RETURN(const Reference reference, ReadReference(end));
      ASSIGN_OR_RETURN(node.groups, KnownGroups(reference));
      RETURN_IF_ERROR(Close());
    } else if (!rest_.empty() &&
               (IsDigit(rest_[0]) || rest_[0] == '-' || rest_[0] == '+')) {
      ASSIGN_OR_RETURN(const Reference reference, ReadReference(')'));
      ASSIGN_OR_RETURN(node.groups, KnownGroups(reference));
    } else {
      ASSIGN_OR_RETURN(condition, Alternatives(options));
      RETURN_IF_ERROR(Close());
    }
    const bool checks = !node.groups.empty() && rest_.starts_with(")");
    ASSIGN_OR_RETURN(OnigNode then, Sequence(options));
    // Oniguruma goes astray behind a condition that has no other way.
    if (!checks && !Take("|")) return RefusePattern("a condition without '|'");
    OnigNode otherwise = Anchor("(?!)");
    if (!checks) {
      ASSIGN_OR_RETURN(otherwise, Alternatives(options));
    }
    RETURN_IF_ERROR(Close());
    if (node.groups.size() > 1) {
      return RefusePattern("a condition on several groups");
    }
    node.children.push_back(std::move(then));
    node.children.push_back(std::move(otherwise));
    node.children.push_back(std::move(condition));
    return node;
  }

  // "name>", "2>", "-1>" or "+1>", up to `end`.
  absl::StatusOr<Reference> ReadReference(char end) {
    Reference reference;
    const size_t length = rest_.find(end);
    if (length == rest_.npos) return NoPattern("a name is not closed");
    const std::string_view text = rest_.substr(0, length);
    const bool relative = text.starts_with('-') || text.starts_with('+');
    const std::string_view digits = text.substr(relative ? 1 : 0);
    if (!digits.empty() && std::all_of(digits.begin(), digits.end(), IsDigit)) {
      int number = 0;
      if (digits.size() > 4 || !absl::SimpleAtoi(ToAbsl(digits), &number)) {
        return NoPattern(StrCat("there is no group ", digits));
      }
      if (relative && number == 0) return NoPattern("there is no group 0");
      if (text[0] == '-') number = num_groups_ + 1 - number;
      if (text[0] == '+') number = num_groups_ + number;
      reference.number = number;
      rest_.remove_prefix(length + 1);
      return reference;
    }
    ASSIGN_OR_RETURN(const std::string_view name, ReadName(end));
    reference.name = std::string(name);
    return reference;
  }

  // Those of a name that stand before here.
  absl::StatusOr<std::vector<int>> KnownGroups(const Reference& reference) {
    if (reference.name.empty()) {
      numbers_.push_back(reference.number);
      if (reference.number == 0) return NoPattern("there is no group 0");
      return std::vector<int>{reference.number};
    }
    const auto found = names_.find(reference.name);
    if (found == names_.end()) {
      return NoPattern(StrCat("no group before is called ", reference.name));
    }
    return found->second;
  }

  // Once all groups are known.
  absl::Status CheckNumbers() const {
    for (const int number : numbers_) {
      if (number < 0 || number > num_groups_) {
        return NoPattern(StrCat("there is no group ", number));
      }
      if (number != 0 && !names_.empty()) {
        return NoPattern("a number for a group where others have names");
      }
    }
    return absl::OkStatus();
  }

  absl::Status ResolveCalls(OnigNode& node) const {
    if (node.kind == Kind::kCall && !node.text.empty()) {
      const auto found = names_.find(node.text);
      if (found == names_.end()) {
        return NoPattern(StrCat("no group is called ", node.text));
      }
      if (found->second.size() > 1) {
        return NoPattern(StrCat("several groups are called ", node.text));
      }
      node.group = found->second[0];
    }
    for (OnigNode& child : node.children) RETURN_IF_ERROR(ResolveCalls(child));
    return absl::OkStatus();
  }

  absl::StatusOr<OnigNode> Backreference(const Reference& reference,
                                         OnigOptions options) {
    if (options.ignore_case) return RefusePattern("a reference in (?i:)");
    OnigNode node;
    node.kind = Kind::kBackreference;
    ASSIGN_OR_RETURN(node.groups, KnownGroups(reference));
    return node;
  }

  // Of what stands before it; nothing if no repeat comes.
  absl::StatusOr<std::optional<OnigRepeat>> ReadRepeat() {
    OnigRepeat repeat;
    bool fixed = false;
    bool interval = false;
    if (Take("*")) {
      repeat.max = OnigNode::kEndless;
    } else if (Take("+")) {
      repeat = {1, OnigNode::kEndless};
    } else if (Take("?")) {
      repeat.max = 1;
    } else if (rest_.starts_with("{")) {
      ASSIGN_OR_RETURN(interval, ReadInterval(repeat, fixed));
      if (!interval) return std::optional<OnigRepeat>();
    } else {
      return std::optional<OnigRepeat>();
    }
    if (!fixed && !repeat.possessive && Take("?")) {
      repeat.lazy = true;
    } else if (!interval && Take("+")) {
      repeat.possessive = true;
    }
    return std::optional<OnigRepeat>(repeat);
  }

  // {n}, {n,}, {,n} or {n,m}; else a brace is a brace.
  absl::StatusOr<bool> ReadInterval(OnigRepeat& repeat, bool& fixed) {
    const size_t close = rest_.find('}');
    if (close == rest_.npos) return false;
    const std::string_view inside = rest_.substr(1, close - 1);
    const size_t comma = inside.find(',');
    const std::string_view low = inside.substr(0, comma);
    const std::string_view high =
        comma == inside.npos ? std::string_view() : inside.substr(comma + 1);
    if ((low.empty() && high.empty()) ||
        !std::all_of(low.begin(), low.end(), IsDigit) ||
        !std::all_of(high.begin(), high.end(), IsDigit)) {
      return false;
    }
    fixed = comma == inside.npos;
    for (const auto& [digits, number] :
         {std::pair(low, &repeat.min), std::pair(high, &repeat.max)}) {
      if (digits.empty()) continue;
      if (digits.size() > 9 || !absl::SimpleAtoi(ToAbsl(digits), number) ||
          *number > kMaxRepeat) {
        return RefusePattern(StrCat("a repeat of more than ", kMaxRepeat));
      }
    }
    if (fixed) repeat.max = repeat.min;
    if (!fixed && high.empty()) repeat.max = OnigNode::kEndless;
    if (repeat.max != OnigNode::kEndless && repeat.max < repeat.min) {
      std::swap(repeat.min, repeat.max);
      repeat.possessive = true;
    }
    rest_.remove_prefix(close + 1);
    return true;
  }

  absl::StatusOr<OnigNode> Escape(OnigOptions options, char32_t before) {
    if (rest_.size() < 2) return RefusePattern("'\\' at the end");
    const char kind = rest_[1];
    for (const char anchor : {'A', 'z', 'Z', 'K'}) {
      if (kind != anchor) continue;
      rest_.remove_prefix(2);
      return Anchor({'\\', kind});
    }
    if (kind == 'b' || kind == 'B') {
      rest_.remove_prefix(2);
      return WordBoundary(kind == 'B');
    }
    if (Take("\\R")) {
      return Text("(?>\\r\\n|[\\n-\\r\\x{85}\\x{2028}\\x{2029}])");
    }
    if (Take("\\N")) return Text("(?-s:.)");
    if (Take("\\O")) return Text("(?s:.)");
    if (Take("\\k<") || Take("\\k'")) {
      const char end = *(rest_.data() - 1) == '<' ? '>' : '\'';
      ASSIGN_OR_RETURN(const Reference reference, ReadReference(end));
      return Backreference(reference, options);
    }
    if (Take("\\g<") || Take("\\g'")) {
      // It could come to another one.
      if (in_absent_) return RefusePattern("a call in '(?~'");
      const char end = *(rest_.data() - 1) == '<' ? '>' : '\'';
      ASSIGN_OR_RETURN(const Reference reference, ReadReference(end));
      OnigNode node;
      node.kind = Kind::kCall;
      node.text = reference.name;
      node.group = reference.number;
      if (reference.name.empty()) numbers_.push_back(reference.number);
      return node;
    }
    if (kind >= '1' && kind <= '9') return NumberedBackreference(options);
    ASSIGN_OR_RETURN(const std::optional<OnigSet> set,
                     characters_.ReadSetEscape(false));
    if (set.has_value()) return SetNode(*set, options, /*bracketed=*/false);
    ASSIGN_OR_RETURN(const char32_t c, characters_.ReadEscape(false));
    return Literal(c, options, before);
  }

  absl::StatusOr<OnigNode> WordBoundary(bool negated) {
    ASSIGN_OR_RETURN(const OnigNode word, SetNode(WordSet(false), {}, true));
    set_bytes_ += 2 * word.text.size();
    return Anchor(StrCat("(?(?<=", word.text, ")(?", negated ? "=" : "!",
                         word.text, ")|(?", negated ? "!" : "=", word.text,
                         "))"));
  }

  absl::StatusOr<OnigNode> NumberedBackreference(OnigOptions options) {
    size_t length = 1;
    while (length < rest_.size() && IsDigit(rest_[length])) ++length;
    Reference reference;
    if (length > 4 ||
        !absl::SimpleAtoi(ToAbsl(rest_.substr(1, length - 1)),
                          &reference.number) ||
        (reference.number > 9 && reference.number > num_groups_)) {
      return RefuseNext(length);  // a number in base 8, or none
    }
    rest_.remove_prefix(length);
    return Backreference(reference, options);
  }

  std::string_view rest_;
  OnigCharacters characters_;  // reads from rest_
  int depth_ = 0;
  size_t set_bytes_ = 0;    // so far
  char32_t previous_ = 0;   // a literal letter, for pairs that fold to one
  bool in_absent_ = false;  // in (?~..)
  int num_groups_ = 0;      // opened so far
  absl::flat_hash_map<std::string, std::vector<int>> names_;
  std::vector<int> numbers_;  // that references name
};

}  // namespace

absl::StatusOr<OnigTree> ParseOnigPattern(std::string_view pattern) {
  return Parser(pattern).Run();
}

}  // namespace ounce::model
