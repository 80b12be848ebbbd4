#include "model/tokenizer/text_pattern.h"

#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/step_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
absl::StatusOr<TextPattern> TextPattern::Read(const nlohmann::json& step) {
  const nlohmann::json* const field = FindField(step, "pattern");
  if (field == nullptr || !field->is_object() || field->size() != 1) {
    return absl::InvalidArgumentError(
        "'pattern' must be an object with one of String and Regex");
  }
  TextPattern pattern;
  if (field->contains("String")) {
    ASSIGN_OR_RETURN(pattern.string_, JsonString(*field, "String"));
    if (pattern.string_.empty()) {
      return absl::UnimplementedError(
          "'pattern' must not be empty, is: it stands between any two "
          "characters");
    }
    return pattern;
  }
  if (!field->contains("Regex")) {
    return absl::UnimplementedError(StrCat(
        "'pattern' must be a String or a Regex, is ", field->begin().key()));
  }
  ASSIGN_OR_RETURN(const std::string text, JsonString(*field, "Regex"));
  ASSIGN_OR_RETURN(pattern.regex_, Regex::CompileOnig(text));
  return pattern;
}

absl::Status TextPattern::ForEachMatch(
    std::string_view text, RegexBudget& budget,
    absl::FunctionRef<absl::Status(size_t, size_t)> match) const {
  if (regex_.has_value()) return regex_->ForEachMatch(text, budget, match);
  for (size_t at = text.find(string_); at != text.npos;
       at = text.find(string_, at + string_.size())) {
    RETURN_IF_ERROR(match(at, at + string_.size()));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> AppendReplaced(std::string_view text,
                                    const TextPattern& pattern,
                                    std::string_view content, size_t max_bytes,
                                    RegexBudget& budget, std::string& result) {
  size_t done = 0;
  bool same_beginning = true;
  RETURN_IF_ERROR(pattern.ForEachMatch(
      text, budget, [&](size_t begin, size_t end) -> absl::Status {
        // What replaces several characters stands for the last of them.
        if (begin == 0 && end > 0 &&
            (content.empty() || FirstUtf8Sequence(text).length != end)) {
          same_beginning = false;
        }
        if (begin - done + content.size() > max_bytes - result.size()) {
          return absl::ResourceExhaustedError(
              "the tokenizer's replacements make the text too long");
        }
        result += text.substr(done, begin - done);
        result += content;
        done = end;
        return absl::OkStatus();
      }));
  result += text.substr(done);
  return same_beginning;
}

}  // namespace ounce::model
