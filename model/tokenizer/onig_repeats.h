// Repeats, and repeats of repeats, which Oniguruma makes one where it can; not
// always with the same meaning, so we do as well.
#ifndef OUNCE_MODEL_TOKENIZER_ONIG_REPEATS_H_
#define OUNCE_MODEL_TOKENIZER_ONIG_REPEATS_H_

#include "absl/status/statusor.h"
#include "model/tokenizer/onig_tree.h"

namespace ounce::model {

struct OnigRepeat {
  int min = 0;
  int max = 0;  // OnigNode::kEndless if there is none
  bool lazy = false;
  bool possessive = false;
};

// `item`, repeated.
// Errors: kInvalidArgument where nothing is to be repeated, as at "^*".
absl::StatusOr<OnigNode> Repeated(OnigNode item, OnigRepeat repeat);

// "(?i-s:".
std::string OptionsOpening(OnigOptions options);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_ONIG_REPEATS_H_
