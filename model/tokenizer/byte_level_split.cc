#include "model/tokenizer/byte_level_split.h"

#include <string>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/step_fields.h"
#include "model/tokenizer/word_splitter.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

class ByteLevelSplit final : public PreTokenizer {
 public:
  ByteLevelSplit(const ByteLevelOptions& options,
                 std::unique_ptr<const WordSplitter> splitter)
      : options_(options), splitter_(std::move(splitter)) {}

  absl::Status Split(const Word& word, WordSink sink) const override {
    if (options_.add_prefix_space && word.text[0] != ' ') {
      const std::string prefixed = StrCat(" ", word.text);
      return SplitPrefixed({prefixed, word.at_beginning}, sink);
    }
    return SplitPrefixed(word, sink);
  }

 private:
  absl::Status SplitPrefixed(const Word& word, WordSink sink) const {
    if (!options_.use_regex) return Spell(word, sink);
    bool at_beginning = word.at_beginning;
    return splitter_->Split(word.text, [&](std::string_view text) {
      return Spell({text, std::exchange(at_beginning, false)}, sink);
    });
  }

  absl::Status Spell(const Word& word, WordSink sink) const {
    if (!options_.spell) return sink(word);
    std::string spelled;
    spelled.reserve(2 * word.text.size());
    for (const char c : word.text) spelled += SpelledByte(c);
    return sink({spelled, word.at_beginning});
  }

  const ByteLevelOptions options_;
  const std::unique_ptr<const WordSplitter> splitter_;
};

absl::StatusOr<std::unique_ptr<const PreTokenizer>> Make(const json& step,
                                                         bool spell) {
  RETURN_IF_ERROR(CheckKeys(
      step, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  ByteLevelOptions options;
  options.spell = spell;
  ASSIGN_OR_RETURN(options.add_prefix_space,
                   JsonBool(step, "add_prefix_space"));
  ASSIGN_OR_RETURN(options.use_regex,
                   OptionalJsonBool(step, "use_regex", true));
  return MakeByteLevelSplit(options);
}

}  // namespace

absl::StatusOr<std::unique_ptr<const PreTokenizer>> MakeByteLevelSplit(
    const ByteLevelOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<const WordSplitter> splitter,
                   WordSplitter::Create());
  return std::make_unique<const ByteLevelSplit>(options, std::move(splitter));
}

absl::StatusOr<std::unique_ptr<const PreTokenizer>> MakeUnspelledByteLevelSplit(
    const json& step) {
  return Make(step, false);
}

absl::StatusOr<std::unique_ptr<const PreTokenizer>> MakeByteLevelSplit(
    const json& step) {
  return Make(step, true);
}

}  // namespace ounce::model
