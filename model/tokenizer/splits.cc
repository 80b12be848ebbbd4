// Pre-tokenizers that look for delimiters, and what they do with them.
//
// Source: Hugging Face tokenizers 0.22.2, pre_tokenizers/ and
// NormalizedString::split.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/onig_set.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "model/tokenizer/regex.h"
#include "model/tokenizer/step_fields.h"
#include "model/tokenizer/text_pattern.h"
#include "model/tokenizer/unicode.h"
#include "model/tokenizer/utf8.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;
using PreTokenizerOr = absl::StatusOr<std::unique_ptr<const PreTokenizer>>;

// What becomes of delimiters.
enum class Behavior {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,  // a run of them is one part
};

absl::StatusOr<Behavior> ReadBehavior(const json& step) {
  ASSIGN_OR_RETURN(const std::string name, JsonString(step, "behavior"));
  constexpr std::pair<std::string_view, Behavior> kNames[] = {
      {"Removed", Behavior::kRemoved},
      {"Isolated", Behavior::kIsolated},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous}};
  for (const auto& [known, behavior] : kNames) {
    if (known == name) return behavior;
  }
  return absl::UnimplementedError(
      StrCat("'behavior' ", Quoted(name), " is not supported"));
}

// Takes a text as delimiters and what lies between, in order, and gives out
// parts.
class Cutter {
 public:
  Cutter(const Word& word, Behavior behavior, WordSink sink)
      : word_(word), behavior_(behavior), sink_(sink) {}

  // From where the last one ended to `end`.
  absl::Status Add(size_t end, bool delimiter) {
    const bool after_delimiter = std::exchange(after_delimiter_, delimiter);
    bool joins = false;  // goes with what waits
    switch (behavior_) {
      case Behavior::kRemoved:
        RETURN_IF_ERROR(Give());
        if (delimiter) {
          begin_ = end;
          end_ = end;
          return absl::OkStatus();
        }
        break;
      case Behavior::kIsolated:
        break;
      case Behavior::kMergedWithPrevious:
        joins = delimiter && !after_delimiter;
        break;
      case Behavior::kMergedWithNext:
        joins = !delimiter && after_delimiter;
        break;
      case Behavior::kContiguous:
        joins = delimiter == after_delimiter;
        break;
    }
    if (!joins) RETURN_IF_ERROR(Give());
    end_ = end;
    return absl::OkStatus();
  }

  absl::Status Finish() { return Give(); }

 private:
  absl::Status Give() {
    const size_t begin = std::exchange(begin_, end_);
    if (begin == end_) return absl::OkStatus();
    return sink_({word_.text.substr(begin, end_ - begin),
                  word_.at_beginning && begin == 0});
  }

  const Word& word_;
  const Behavior behavior_;
  const WordSink sink_;
  // What waits is the text from begin_ to end_.
  size_t begin_ = 0;
  size_t end_ = 0;
  bool after_delimiter_ = false;
};

class PatternSplit final : public PreTokenizer {
 public:
  PatternSplit(TextPattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  absl::Status Split(const Word& word, WordSink sink) const override {
    Cutter cutter(word, behavior_, sink);
    RegexBudget own;
    size_t done = 0;
    RETURN_IF_ERROR(pattern_.ForEachMatch(
        word.text, word.budget != nullptr ? *word.budget : own,
        [&](size_t begin, size_t end) -> absl::Status {
          if (begin > done) RETURN_IF_ERROR(cutter.Add(begin, invert_));
          done = end;
          return cutter.Add(end, !invert_);
        }));
    if (done < word.text.size()) {
      RETURN_IF_ERROR(cutter.Add(word.text.size(), invert_));
    }
    return cutter.Finish();
  }

 private:
  const TextPattern pattern_;
  const Behavior behavior_;
  const bool invert_;
};

// Each character that `IsDelimiter` is one.
template <typename IsDelimiter>
class CharacterSplit final : public PreTokenizer {
 public:
  CharacterSplit(IsDelimiter is_delimiter, Behavior behavior)
      : is_delimiter_(is_delimiter), behavior_(behavior) {}

  absl::Status Split(const Word& word, WordSink sink) const override {
    Cutter cutter(word, behavior_, sink);
    size_t done = 0;
    for (size_t at = 0; at < word.text.size();) {
      const Utf8Sequence c = FirstUtf8Sequence(word.text.substr(at));
      const size_t end = at + c.length;
      if (is_delimiter_(c.code_point)) {
        if (at > done) RETURN_IF_ERROR(cutter.Add(at, false));
        RETURN_IF_ERROR(cutter.Add(end, true));
        done = end;
      }
      at = end;
    }
    if (done < word.text.size()) {
      RETURN_IF_ERROR(cutter.Add(word.text.size(), false));
    }
    return cutter.Finish();
  }

 private:
  const IsDelimiter is_delimiter_;
  const Behavior behavior_;
};

template <typename IsDelimiter>
std::unique_ptr<const PreTokenizer> SplitAt(IsDelimiter is_delimiter,
                                            Behavior behavior) {
  return std::make_unique<const CharacterSplit<IsDelimiter>>(is_delimiter,
                                                             behavior);
}

// One step after the other.
class TwoSplits final : public PreTokenizer {
 public:
  TwoSplits(std::unique_ptr<const PreTokenizer> first,
            std::unique_ptr<const PreTokenizer> second)
      : first_(std::move(first)), second_(std::move(second)) {}

  absl::Status Split(const Word& word, WordSink sink) const override {
    return first_->Split(
        word, [&](const Word& part) { return second_->Split(part, sink); });
  }

 private:
  const std::unique_ptr<const PreTokenizer> first_;
  const std::unique_ptr<const PreTokenizer> second_;
};

// Parts of so many characters.
class FixedLength final : public PreTokenizer {
 public:
  explicit FixedLength(int64_t length) : length_(length) {}

  absl::Status Split(const Word& word, WordSink sink) const override {
    size_t begin = 0;
    int64_t length = 0;
    for (size_t at = 0; at < word.text.size();) {
      at += FirstUtf8Sequence(word.text.substr(at)).length;
      if (++length < length_ && at < word.text.size()) continue;
      RETURN_IF_ERROR(sink({word.text.substr(begin, at - begin),
                            word.at_beginning && begin == 0}));
      begin = at;
      length = 0;
    }
    return absl::OkStatus();
  }

 private:
  const int64_t length_;
};

// What a regular expression of words matches, and nothing else.
class WordsOnly final : public PreTokenizer {
 public:
  explicit WordsOnly(Regex words) : words_(std::move(words)) {}

  absl::Status Split(const Word& word, WordSink sink) const override {
    return words_.ForEachMatch(word.text, [&](size_t begin, size_t end) {
      return sink({word.text.substr(begin, end - begin),
                   word.at_beginning && begin == 0});
    });
  }

 private:
  const Regex words_;
};

}  // namespace

PreTokenizerOr MakeSplit(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "pattern", "behavior", "invert"}));
  ASSIGN_OR_RETURN(TextPattern pattern, TextPattern::Read(step));
  ASSIGN_OR_RETURN(const Behavior behavior, ReadBehavior(step));
  ASSIGN_OR_RETURN(const bool invert, JsonBool(step, "invert"));
  return std::make_unique<const PatternSplit>(std::move(pattern), behavior,
                                              invert);
}

PreTokenizerOr MakeDigits(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "individual_digits"}));
  ASSIGN_OR_RETURN(const bool individual, JsonBool(step, "individual_digits"));
  return SplitAt(&IsNumber,
                 individual ? Behavior::kIsolated : Behavior::kContiguous);
}

PreTokenizerOr MakePunctuation(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "behavior"}));
  Behavior behavior = Behavior::kIsolated;
  if (step.contains("behavior")) {
    ASSIGN_OR_RETURN(behavior, ReadBehavior(step));
  }
  return SplitAt(&IsPunctuation, behavior);
}

PreTokenizerOr MakeWhitespaceSplit(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type"}));
  return SplitAt(&IsWhiteSpace, Behavior::kRemoved);
}

PreTokenizerOr MakeCharDelimiterSplit(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "delimiter"}));
  ASSIGN_OR_RETURN(const char32_t delimiter, JsonCharacter(step, "delimiter"));
  return SplitAt([delimiter](char32_t c) { return c == delimiter; },
                 Behavior::kRemoved);
}

PreTokenizerOr MakeFixedLength(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "length"}));
  ASSIGN_OR_RETURN(const int64_t length,
                   OptionalJsonInt(step, "length", 1, 1 << 30, 5));
  return std::make_unique<const FixedLength>(length);
}

PreTokenizerOr MakeBertPreTokenizer(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type"}));
  return std::make_unique<const TwoSplits>(
      SplitAt(&IsWhiteSpace, Behavior::kRemoved),
      SplitAt(&IsPunctuation, Behavior::kIsolated));
}

// \w+|[^\w\s]+ of Rust's regular expressions.
PreTokenizerOr MakeWhitespace(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type"}));
  const std::string word = RustWordCharacters();
  ASSIGN_OR_RETURN(Regex words,
                   Regex::Compile(StrCat("[", word, "]+|[^", word,
                                         WhiteSpaceCharacters(), "]+")));
  return std::make_unique<const WordsOnly>(std::move(words));
}

}  // namespace ounce::model
