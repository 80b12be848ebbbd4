#include "model/tokenizer/metaspace.h"

#include <memory>
#include <string_view>
#include <utility>

#include "absl/strings/str_replace.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "model/tokenizer/step_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;
using Scheme = MetaspaceOptions::Scheme;

class MetaspaceSplit final : public PreTokenizer {
 public:
  explicit MetaspaceSplit(MetaspaceOptions options)
      : options_(std::move(options)) {}

  absl::Status Split(const Word& word, WordSink sink) const override {
    const std::string& mark = options_.replacement;
    std::string text =
        absl::StrReplaceAll(ToAbsl(word.text), {{" ", ToAbsl(mark)}});
    const bool prepend =
        options_.scheme == Scheme::kAlways ||
        (options_.scheme == Scheme::kFirst && word.at_beginning);
    if (prepend && !text.starts_with(mark)) text.insert(0, mark);
    if (!options_.split) return sink({text, word.at_beginning});
    // Each mark begins a word.
    const std::string_view whole = text;
    bool at_beginning = word.at_beginning;
    for (size_t begin = 0; begin < whole.size();) {
      const size_t end = std::min(
          whole.find(
              mark, begin + (whole.substr(begin).starts_with(mark) ? mark.size()
                                                                   : 1)),
          whole.size());
      RETURN_IF_ERROR(sink({whole.substr(begin, end - begin),
                            std::exchange(at_beginning, false)}));
      begin = end;
    }
    return absl::OkStatus();
  }

 private:
  const MetaspaceOptions options_;
};

}  // namespace

absl::StatusOr<MetaspaceOptions> ReadMetaspace(const json& step) {
  RETURN_IF_ERROR(
      CheckKeys(step, {"type", "replacement", "str_rep", "add_prefix_space",
                       "prepend_scheme", "split"}));
  MetaspaceOptions options;
  RETURN_IF_ERROR(JsonCharacter(step, "replacement").status());
  ASSIGN_OR_RETURN(options.replacement, JsonString(step, "replacement"));
  ASSIGN_OR_RETURN(const std::string scheme,
                   OptionalJsonString(step, "prepend_scheme", "always"));
  if (scheme == "first") {
    options.scheme = Scheme::kFirst;
  } else if (scheme == "never") {
    options.scheme = Scheme::kNever;
  } else if (scheme != "always") {
    return Unsupported("'prepend_scheme'", Quoted(scheme),
                       "always, first or never");
  }
  // The older way to say "never".
  ASSIGN_OR_RETURN(const bool prefix,
                   OptionalJsonBool(step, "add_prefix_space", true));
  if (!prefix && options.scheme != Scheme::kNever) {
    return absl::InvalidArgumentError(
        StrCat("'add_prefix_space' must be true where 'prepend_scheme' is ",
               Quoted(scheme), ", is false"));
  }
  ASSIGN_OR_RETURN(options.split, OptionalJsonBool(step, "split", true));
  return options;
}

absl::StatusOr<std::unique_ptr<const PreTokenizer>> MakeMetaspaceSplit(
    const json& step) {
  ASSIGN_OR_RETURN(MetaspaceOptions options, ReadMetaspace(step));
  return std::make_unique<const MetaspaceSplit>(std::move(options));
}

}  // namespace ounce::model
