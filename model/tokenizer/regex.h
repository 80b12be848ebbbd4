// Regular expressions on UTF-8, by PCRE2.
//
// Threads: const after it was compiled, so any thread may call anything.
#ifndef OUNCE_MODEL_TOKENIZER_REGEX_H_
#define OUNCE_MODEL_TOKENIZER_REGEX_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "model/tokenizer/pcre2_code.h"

namespace ounce::model {

// What the searches of one call of Encode may take together: a number of steps
// and a time of the CPU, and some more of both for each byte that they look
// through. Steps say whether a pattern suits a text, the same everywhere; but
// PCRE2 counts them anew at each place where a match may begin, and one may
// look at all of the text, so that it takes both to bound the work.
//
// Threads: one, which it is used on.
class RegexBudget {
 public:
  explicit RegexBudget(absl::Duration cpu = absl::Seconds(1))
      : time_left_(cpu) {}

  void AddText(size_t bytes);
  // False if there are not so many left.
  bool TakeSteps(uint64_t steps);
  bool TakeTime(absl::Duration cpu);
  absl::Duration time_left() const { return time_left_; }

 private:
  uint64_t steps_left_ = 10'000'000;
  absl::Duration time_left_;
};

class Regex {
 public:
  // `pattern` in PCRE2's syntax, with ^ and $ at every line.
  // Errors: kInvalidArgument, with PCRE2's reason.
  static absl::StatusOr<Regex> Compile(std::string_view pattern);

  // The same for a pattern in the syntax of Oniguruma, which tokenizer.json
  // writes and the reference reads (onig_pattern.h).
  // Errors: kUnimplemented, naming the construct that differs.
  static absl::StatusOr<Regex> CompileOnig(std::string_view pattern);

  // Calls `match` with begin and end of each match in `text`, valid UTF-8, one
  // after the other. An empty match right behind another is none.
  // Errors: those of `match`; kResourceExhausted when the pattern needs more
  // than is left, or more memory than we spend.
  absl::Status ForEachMatch(
      std::string_view text, RegexBudget& budget,
      absl::FunctionRef<absl::Status(size_t, size_t)> match) const;
  // With steps of its own.
  absl::Status ForEachMatch(
      std::string_view text,
      absl::FunctionRef<absl::Status(size_t, size_t)> match) const;

 private:
  explicit Regex(Pcre2Code code) : code_(std::move(code)) {}

  Pcre2Code code_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_REGEX_H_
