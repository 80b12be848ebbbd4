// Normalizers that know no more of Unicode than white space: Prepend, Replace,
// Strip.
//
// Source: Hugging Face tokenizers 0.22.2, normalizers/.
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/step_fields.h"
#include "model/tokenizer/text_pattern.h"
#include "model/tokenizer/utf8.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;
using NormalizerOr = absl::StatusOr<std::unique_ptr<const Normalizer>>;

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string what) : what_(std::move(what)) {}

  absl::Status Normalize(NormalizedText& text) const override {
    if (!text.text.empty()) text.text.insert(0, what_);
    return absl::OkStatus();
  }

 private:
  const std::string what_;
};

class Replace final : public Normalizer {
 public:
  Replace(TextPattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  absl::Status Normalize(NormalizedText& text) const override {
    RegexBudget own;
    std::string replaced;
    ASSIGN_OR_RETURN(
        const bool same_beginning,
        AppendReplaced(text.text, pattern_, content_, text.max_bytes,
                       text.budget != nullptr ? *text.budget : own, replaced));
    text.at_beginning &= same_beginning;
    text.text = std::move(replaced);
    return absl::OkStatus();
  }

 private:
  const TextPattern pattern_;
  const std::string content_;
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  absl::Status Normalize(NormalizedText& text) const override {
    std::string_view rest = text.text;
    size_t space = 0;
    while (left_ && (space = LeadingSpaceBytes(rest)) != 0) {
      rest.remove_prefix(space);
    }
    if (rest.size() != text.text.size()) text.at_beginning = false;
    while (right_ && (space = TrailingSpaceBytes(rest)) != 0) {
      rest.remove_suffix(space);
    }
    text.text = std::string(rest);
    return absl::OkStatus();
  }

 private:
  const bool left_;
  const bool right_;
};

}  // namespace

NormalizerOr MakePrepend(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "prepend"}));
  ASSIGN_OR_RETURN(std::string what, JsonString(step, "prepend"));
  return std::make_unique<const Prepend>(std::move(what));
}

NormalizerOr MakeReplace(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "pattern", "content"}));
  ASSIGN_OR_RETURN(TextPattern pattern, TextPattern::Read(step));
  ASSIGN_OR_RETURN(std::string content, JsonString(step, "content"));
  return std::make_unique<const Replace>(std::move(pattern),
                                         std::move(content));
}

NormalizerOr MakeStrip(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "strip_left", "strip_right"}));
  ASSIGN_OR_RETURN(const bool left, JsonBool(step, "strip_left"));
  ASSIGN_OR_RETURN(const bool right, JsonBool(step, "strip_right"));
  return std::make_unique<const Strip>(left, right);
}

}  // namespace ounce::model
