#include "model/tokenizer/onig_pattern.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/tokenizer/onig_repeats.h"
#include "model/tokenizer/onig_tree.h"

namespace ounce::model {
namespace {

using Kind = OnigNode::Kind;

constexpr size_t kMaxPatternBytes = 64 << 10;
// What calls make of it.
constexpr size_t kMaxTranslatedBytes = 2 << 20;
constexpr int kMaxDepth = 200;  // PCRE2 takes 250 groups in one another
// Oniguruma fails where calls are deeper in one another, the place of a group
// that is called counting as one.
constexpr int kMaxCalls = 20;

class Writer {
 public:
  explicit Writer(const OnigTree& tree)
      : tree_(tree),
        captures_(tree.num_groups + 1),
        referred_(tree.num_groups + 1),
        called_(tree.num_groups + 1),
        numbers_(tree.num_groups + 1) {}

  absl::StatusOr<std::string> Run() {
    RETURN_IF_ERROR(Visit(tree_.root));
    if (has_calls_ && has_references_) {
      return RefusePattern("a call beside a reference");
    }
    int number = 0;
    for (int group = 1; group <= tree_.num_groups; ++group) {
      if (referred_[group]) numbers_[group] = ++number;
    }
    RETURN_IF_ERROR(WriteGroup(0));
    return std::move(out_);
  }

 private:
  // What the tree has.
  absl::Status Visit(const OnigNode& node) {
    if (node.kind == Kind::kCapture) captures_[node.group] = &node;
    if (node.kind == Kind::kCall) {
      has_calls_ = true;
      called_[node.group] = true;
    }
    for (const int group : node.groups) {
      has_references_ = true;
      referred_[group] = true;
    }
    for (const OnigNode& child : node.children) RETURN_IF_ERROR(Visit(child));
    return absl::OkStatus();
  }

  static bool CanBeEmpty(const OnigNode& node) {
    const auto can_be = [](const OnigNode& child) { return CanBeEmpty(child); };
    switch (node.kind) {
      case Kind::kText:
        return false;
      case Kind::kSequence:
        return std::all_of(node.children.begin(), node.children.end(), can_be);
      case Kind::kAlternatives:
      case Kind::kGroup:
      case Kind::kCapture:
        return std::any_of(node.children.begin(), node.children.end(), can_be);
      case Kind::kRepeat:
        return node.min == 0 || can_be(node.children[0]);
      case Kind::kCondition:
      case Kind::kAnchor:
      case Kind::kLook:
      case Kind::kBackreference:
      case Kind::kCall:
        return true;
    }
    return true;
  }

  bool HasReferred(const OnigNode& node) const {
    if (node.kind == Kind::kCapture && referred_[node.group]) return true;
    return std::any_of(
        node.children.begin(), node.children.end(),
        [this](const OnigNode& child) { return HasReferred(child); });
  }

  absl::Status WriteAround(std::string_view opening, const OnigNode& node) {
    if (++depth_ > kMaxDepth) return RefusePattern("such deep nesting");
    out_ += opening;
    RETURN_IF_ERROR(Write(node));
    out_ += ")";
    --depth_;
    return absl::OkStatus();
  }

  // As one item, that may be repeated and stand in a sequence.
  absl::Status WriteItem(const OnigNode& node) {
    if (node.kind == Kind::kSequence || node.kind == Kind::kAlternatives ||
        node.kind == Kind::kRepeat) {
      return WriteAround("(?:", node);
    }
    return Write(node);
  }

  absl::Status Write(const OnigNode& node) {
    if (out_.size() > kMaxTranslatedBytes) {
      return RefusePattern("so long a pattern");
    }
    switch (node.kind) {
      case Kind::kText:
      case Kind::kAnchor:
        out_ += node.text;
        return absl::OkStatus();
      case Kind::kSequence:
        for (const OnigNode& child : node.children) {
          RETURN_IF_ERROR(child.kind == Kind::kRepeat ? Write(child)
                                                      : WriteItem(child));
        }
        return absl::OkStatus();
      case Kind::kAlternatives:
        for (const OnigNode& child : node.children) {
          if (&child != &node.children.front()) out_ += "|";
          RETURN_IF_ERROR(Write(child));
        }
        return absl::OkStatus();
      case Kind::kGroup:
      case Kind::kLook:
        return WriteAround(node.text, node.children[0]);
      case Kind::kCapture:
        return WriteCapture(node);
      case Kind::kRepeat:
        return WriteRepeat(node);
      case Kind::kBackreference:
        return WriteBackreference(node);
      case Kind::kCall:
        return WriteCall(node.group);
      case Kind::kCondition:
        return WriteCondition(node);
    }
    return absl::OkStatus();
  }

  absl::Status WriteRepeat(const OnigNode& node) {
    const OnigNode& item = node.children[0];
    // Oniguruma counts empty turns in its own way.
    if (node.min > 1 && CanBeEmpty(item)) {
      return RefusePattern("a repeat, twice or more, of what may be empty");
    }
    // And goes on where a turn is empty but changes a group.
    if (node.max == OnigNode::kEndless && CanBeEmpty(item) &&
        HasReferred(item)) {
      return RefusePattern(
          "a repeat of what may be empty around a group that is referred to");
    }
    RETURN_IF_ERROR(WriteItem(item));
    const bool endless = node.max == OnigNode::kEndless;
    if (node.min == 0 && node.max == 1) {
      out_ += "?";
    } else if (endless && node.min <= 1) {
      out_ += node.min == 0 ? "*" : "+";
    } else if (node.min == node.max) {
      out_ += StrCat("{", node.min, "}");
    } else {
      out_ += StrCat("{", node.min, ",");
      if (!endless) out_ += StrCat(node.max);
      out_ += "}";
    }
    if (node.lazy) out_ += "?";
    return absl::OkStatus();
  }

  absl::Status WriteCapture(const OnigNode& node) {
    if (called_[node.group] && (!tree_.has_names || node.named)) {
      return WriteGroup(node.group);
    }
    return WriteAround(referred_[node.group] ? "(" : "(?:", node.children[0]);
  }

  absl::Status WriteBackreference(const OnigNode& node) {
    std::string any;
    for (auto group = node.groups.rbegin(); group != node.groups.rend();
         ++group) {
      if (!any.empty()) any += "|";
      any += StrCat("\\g{", numbers_[*group], "}");
    }
    out_ += node.groups.size() == 1 ? any : StrCat("(?>", any, ")");
    return absl::OkStatus();
  }

  // The group in its own place: a call too, if it is called.
  absl::Status WriteGroup(int group) {
    if (called_[group]) return WriteCall(group);
    return Write(captures_[group]->children[0]);
  }

  absl::Status WriteCall(int group) {
    if (num_calls_ == kMaxCalls) {
      out_ += "(?!)";
      return absl::OkStatus();
    }
    ++num_calls_;
    const OnigNode& called = *captures_[group];
    RETURN_IF_ERROR(
        WriteAround(OptionsOpening(called.options), called.children[0]));
    --num_calls_;
    return absl::OkStatus();
  }

  absl::Status WriteCondition(const OnigNode& node) {
    const OnigNode& then = node.children[0];
    const OnigNode& otherwise = node.children[1];
    const OnigNode& condition = node.children[2];
    if (node.groups.empty()) {
      if (HasReferred(condition)) {
        return RefusePattern("a condition with a group that is referred to");
      }
      RETURN_IF_ERROR(WriteAround("(?:(?>", condition));
    } else {
      out_ += StrCat("(?(", numbers_[node.groups[0]], ")");
    }
    RETURN_IF_ERROR(WriteItem(then));
    out_ += "|";
    if (node.groups.empty()) RETURN_IF_ERROR(WriteAround("(?!", condition));
    RETURN_IF_ERROR(WriteItem(otherwise));
    out_ += ")";
    return absl::OkStatus();
  }

  const OnigTree& tree_;
  std::vector<const OnigNode*> captures_;  // by group
  std::vector<bool> referred_;
  std::vector<bool> called_;
  std::vector<int> numbers_;  // in the translation, of those referred to
  bool has_calls_ = false;
  bool has_references_ = false;
  std::string out_;
  int depth_ = 0;
  int num_calls_ = 0;  // that the place is in
};

}  // namespace

absl::StatusOr<std::string> FromOnigPattern(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        StrCat("regular expression: must have at most ", kMaxPatternBytes,
               " bytes, has ", pattern.size()));
  }
  ASSIGN_OR_RETURN(const OnigTree tree, ParseOnigPattern(pattern));
  return Writer(tree).Run();
}

}  // namespace ounce::model
