// What a regular expression in Oniguruma's syntax says, before it is said in
// PCRE2's.
#ifndef OUNCE_MODEL_TOKENIZER_ONIG_TREE_H_
#define OUNCE_MODEL_TOKENIZER_ONIG_TREE_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/str_cat.h"

namespace ounce::model {

struct OnigOptions {
  bool ignore_case = false;  // i
  bool dot_all = false;      // m
  bool extended = false;     // x
};

struct OnigNode {
  enum class Kind {
    kText,           // at least one character; `text` is one item of PCRE2
    kAnchor,         // no character; `text` too
    kSequence,       // of the children
    kAlternatives,   // the children
    kGroup,          // `text` opens it; one child
    kLook,           // the same; looks ahead or behind
    kCapture,        // group `group`; one child
    kRepeat,         // one child
    kBackreference,  // to the last of `groups` that matches
    kCall,           // of the group `group`
    // (?(group)then|else), or (?(child)then|else); the children are then, else
    // and the condition.
    kCondition,
  };

  Kind kind = Kind::kSequence;
  std::string text;
  std::vector<OnigNode> children;
  std::vector<int> groups;
  int group = 0;
  bool named = false;   // of kCapture
  OnigOptions options;  // of kCapture: those at its place
  int min = 0;          // of kRepeat, as all that follows
  int max = 0;          // kEndless if there is none
  bool lazy = false;

  static constexpr int kEndless = -1;
};

struct OnigTree {
  OnigNode root;  // the group 0, a kCapture
  int num_groups = 0;
  // Groups that have no name don't count where one has.
  bool has_names = false;
};

// Errors: kUnimplemented, naming the construct, and kInvalidArgument for what
// is no pattern.
absl::StatusOr<OnigTree> ParseOnigPattern(std::string_view pattern);

// The errors: for what we can't do, and for what is no pattern.
inline absl::Status RefusePattern(std::string_view what) {
  return absl::UnimplementedError(
      StrCat("regular expression: ", what, " is not supported"));
}
inline absl::Status NoPattern(std::string_view why) {
  return absl::InvalidArgumentError(StrCat("regular expression: ", why));
}

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_ONIG_TREE_H_
