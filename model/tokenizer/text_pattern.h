// What Split and Replace look for: a string, or a regular expression.
//
// Threads: const after Read, so any thread may call anything.
#ifndef OUNCE_MODEL_TOKENIZER_TEXT_PATTERN_H_
#define OUNCE_MODEL_TOKENIZER_TEXT_PATTERN_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/tokenizer/regex.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

class TextPattern {
 public:
  // A step's "pattern": {"String": "▁"} or {"Regex": "\\s+"}.
  // Errors: kInvalidArgument for what is malformed, kUnimplemented for an empty
  // string and for what Regex::CompileOnig refuses.
  static absl::StatusOr<TextPattern> Read(const nlohmann::json& step);

  // The string; null for a regular expression.
  const std::string* string() const {
    return regex_.has_value() ? nullptr : &string_;
  }

  // As Regex has it.
  absl::Status ForEachMatch(
      std::string_view text, RegexBudget& budget,
      absl::FunctionRef<absl::Status(size_t, size_t)> match) const;

 private:
  TextPattern() = default;

  std::string string_;
  std::optional<Regex> regex_;
};

// Appends `text` with `content` in place of what `pattern` finds. Whether the
// first character of the result still stands for the first one of `text`.
// Errors: as ForEachMatch; kResourceExhausted when `result` would have more
// than `max_bytes`.
absl::StatusOr<bool> AppendReplaced(std::string_view text,
                                    const TextPattern& pattern,
                                    std::string_view content, size_t max_bytes,
                                    RegexBudget& budget, std::string& result);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_TEXT_PATTERN_H_
