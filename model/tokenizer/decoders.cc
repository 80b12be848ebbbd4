#include "model/tokenizer/decoders.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_replace.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/metaspace.h"
#include "model/tokenizer/step_fields.h"
#include "model/tokenizer/text_pattern.h"
#include "model/tokenizer/utf8.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;
using DecoderStepOr = absl::StatusOr<std::unique_ptr<const DecoderStep>>;

// A step whose run is an R, made of the run that follows and the step's
// options.
template <typename R>
class StepOf final : public DecoderStep {
 public:
  explicit StepOf(typename R::Options options, bool fuses = false)
      : options_(std::move(options)), fuses_(fuses) {}

  bool fuses() const override { return fuses_; }
  std::unique_ptr<Run> Start(Run& next) const override {
    return std::make_unique<R>(next, options_);
  }

 private:
  const typename R::Options options_;
  const bool fuses_;
};

class RunBefore : public DecoderStep::Run {
 public:
  explicit RunBefore(Run& next) : next_(next) {}
  void Finish() override { next_.Finish(); }

 protected:
  Run& next_;
};

// For steps that must see a token whole.
absl::Status CheckNotFused(const DecoderPlace& place) {
  if (!place.fused) return absl::OkStatus();
  return absl::UnimplementedError(
      "must stand before the step that makes one token of all (Fuse or "
      "ByteLevel), stands behind it");
}

class SpaceJoinerRun final : public RunBefore {
 public:
  struct Options {};
  SpaceJoinerRun(Run& next, const Options&) : RunBefore(next) {}

  void Push(const TokenPart& part) override {
    if (part.first && !std::exchange(at_first_, false)) next_.Push({" "});
    next_.Push(part);
  }

 private:
  bool at_first_ = true;
};

class FuseRun final : public RunBefore {
 public:
  struct Options {};
  FuseRun(Run& next, const Options&) : RunBefore(next) {}

  void Push(const TokenPart& part) override {
    next_.Push({part.text, std::exchange(first_, false), false});
  }
  void Finish() override {
    next_.Push({"", first_, true});
    next_.Finish();
  }

 private:
  bool first_ = true;
};

class ByteLevelRun final : public RunBefore {
 public:
  struct Options {
    bool lossy = false;
  };
  ByteLevelRun(Run& next, const Options& options)
      : RunBefore(next), lossy_(options.lossy) {}

  void Push(const TokenPart& part) override {
    bytes_.clear();
    if (!AppendSpelledBytes(part.text, bytes_)) bytes_ = part.text;
    if (lossy_) {
      text_.clear();
      mended_.Push(bytes_, text_);
    }
    next_.Push({lossy_ ? text_ : bytes_, std::exchange(first_, false), false});
  }
  void Finish() override {
    text_.clear();
    mended_.Finish(text_);
    next_.Push({text_, first_, true});
    next_.Finish();
  }

 private:
  const bool lossy_;
  LossyUtf8 mended_;
  std::string bytes_;
  std::string text_;
  bool first_ = true;
};

// A run of byte tokens is text if it is UTF-8 as a whole, else U+FFFD for each
// byte: so all of it waits for its end.
class ByteFallbackRun final : public RunBefore {
 public:
  struct Options {};
  ByteFallbackRun(Run& next, const Options&) : RunBefore(next) {}

  void Push(const TokenPart& part) override {
    if (const std::optional<char> byte = ByteOf(part.text)) {
      bytes_.push_back(*byte);
      return;
    }
    EndBytes();
    next_.Push(part);
  }
  void Finish() override {
    EndBytes();
    next_.Finish();
  }

 private:
  // The value of a digit of base 16; as in the reference, any case, and a sign
  // before the last one.
  static int Digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  }
  static std::optional<char> ByteOf(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') {
      return std::nullopt;
    }
    const int high = token[3] == '+' ? 0 : Digit(token[3]);
    const int low = Digit(token[4]);
    if (high < 0 || low < 0) return std::nullopt;
    return static_cast<char>(high << 4 | low);
  }

  void EndBytes() {
    if (bytes_.empty()) return;
    if (ValidUtf8Prefix(bytes_) == bytes_.size()) {
      next_.Push({bytes_});
    } else {
      for (size_t i = 0; i < bytes_.size(); ++i) next_.Push({kReplacementText});
    }
    bytes_.clear();
  }

  std::string bytes_;
};

class MetaspaceRun final : public RunBefore {
 public:
  using Options = MetaspaceOptions;
  MetaspaceRun(Run& next, const Options& options)
      : RunBefore(next), options_(options) {}

  void Push(const TokenPart& part) override {
    const bool drop =
        at_first_ && options_.scheme != MetaspaceOptions::Scheme::kNever;
    text_.assign(part.text);
    absl::StrReplaceAll({{ToAbsl(options_.replacement), drop ? "" : " "}},
                        &text_);
    if (part.last) at_first_ = false;
    next_.Push({text_, part.first, part.last});
  }

 private:
  const Options& options_;
  std::string text_;
  bool at_first_ = true;
};

class ReplaceRun final : public RunBefore {
 public:
  struct Options {
    TextPattern pattern;
    std::string content;
  };
  ReplaceRun(Run& next, const Options& options)
      : RunBefore(next), options_(options) {}

  void Push(const TokenPart& part) override {
    text_.clear();
    held_ += part.text;
    std::string_view rest = held_;
    // A pattern that fails on so short a text leaves it as it is, and so does
    // content that would make too much of it.
    constexpr size_t kMaxBytes = 1 << 16;
    if (part.last) {
      RegexBudget budget;
      if (rest.size() > kMaxBytes ||
          !AppendReplaced(rest, options_.pattern, options_.content, kMaxBytes,
                          budget, text_)
               .ok()) {
        text_.assign(rest);
      }
      held_.clear();
    } else {
      const std::string& sought = *options_.pattern.string();
      for (size_t at; (at = rest.find(sought)) != rest.npos;) {
        const bool fits =
            text_.size() + rest.size() + options_.content.size() <=
            kMaxBytes + sought.size();
        text_ += rest.substr(0, at);
        text_ += fits ? options_.content : sought;
        rest.remove_prefix(at + sought.size());
      }
      // What may be the beginning of the string waits.
      size_t waits = std::min(sought.size() - 1, rest.size());
      while (!std::string_view(sought).starts_with(
          rest.substr(rest.size() - waits))) {
        --waits;
      }
      text_ += rest.substr(0, rest.size() - waits);
      held_.erase(0, held_.size() - waits);
    }
    next_.Push({text_, part.first, part.last});
  }

 private:
  const Options& options_;
  std::string held_;
  std::string text_;
};

// Takes up to `start` of the character off a token's beginning, and up to
// `stop` off its end.
class StripRun final : public RunBefore {
 public:
  struct Options {
    std::string content;  // one character
    int64_t start = 0;
    int64_t stop = 0;
  };
  StripRun(Run& next, const Options& options)
      : RunBefore(next), options_(options) {}

  void Push(const TokenPart& part) override {
    if (part.first) {
      to_strip_ = options_.start;
      waiting_ = 0;
    }
    text_.clear();
    std::string_view rest = part.text;
    while (!rest.empty()) {
      if (!rest.starts_with(options_.content)) {
        to_strip_ = 0;
        for (; waiting_ > 0; --waiting_) text_ += options_.content;
        const size_t next = std::min(rest.find(options_.content), rest.size());
        text_ += rest.substr(0, next);
        rest.remove_prefix(next);
        continue;
      }
      rest.remove_prefix(options_.content.size());
      if (to_strip_ > 0) {
        --to_strip_;
      } else if (waiting_ < options_.stop) {
        ++waiting_;
      } else {
        text_ += options_.content;
      }
    }
    next_.Push({text_, part.first, part.last});
  }

 private:
  const Options& options_;
  std::string text_;
  int64_t to_strip_ = 0;  // that may still come off the beginning
  int64_t waiting_ = 0;   // that come off if the token ends here
};

class WordPieceRun final : public RunBefore {
 public:
  struct Options {
    std::string prefix;  // of a token that goes on a word
    bool cleanup = true;
  };
  WordPieceRun(Run& next, const Options& options)
      : RunBefore(next), options_(options) {}

  void Push(const TokenPart& part) override {
    text_.clear();
    std::string_view rest = part.text;
    if (!std::exchange(at_first_, false)) {
      if (rest.starts_with(options_.prefix)) {
        rest.remove_prefix(options_.prefix.size());
      } else {
        text_.push_back(' ');
      }
    }
    text_ += rest;
    if (options_.cleanup) CleanUp(text_);
    next_.Push({text_});
  }

 private:
  static void CleanUp(std::string& text) {
    // One after the other, as in the reference.
    constexpr std::pair<const char*, const char*> kRules[] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : kRules) {
      absl::StrReplaceAll({{from, to}}, &text);
    }
  }

  const Options& options_;
  std::string text_;
  bool at_first_ = true;
};

// The suffix at a word's end is a space, but for the last token, which
// therefore waits.
class BpeRun final : public RunBefore {
 public:
  struct Options {
    std::string suffix;
  };
  BpeRun(Run& next, const Options& options)
      : RunBefore(next), options_(options) {}

  void Push(const TokenPart& part) override {
    if (waits_) Give(" ");
    text_.assign(part.text);
    waits_ = true;
  }
  void Finish() override {
    if (waits_) Give("");
    next_.Finish();
  }

 private:
  void Give(const char* instead) {
    absl::StrReplaceAll({{ToAbsl(options_.suffix), instead}}, &text_);
    next_.Push({text_});
  }

  const Options& options_;
  std::string text_;
  bool waits_ = false;
};

}  // namespace

std::unique_ptr<const DecoderStep> MakeSpaceJoiner() {
  return std::make_unique<StepOf<SpaceJoinerRun>>(SpaceJoinerRun::Options{});
}

std::unique_ptr<const DecoderStep> MakeByteLevelDecoder(bool lossy) {
  return std::make_unique<StepOf<ByteLevelRun>>(ByteLevelRun::Options{lossy},
                                                /*fuses=*/true);
}

DecoderStepOr MakeByteLevelDecoder(const json& step,
                                   const DecoderPlace& place) {
  RETURN_IF_ERROR(CheckKeys(
      step, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  RETURN_IF_ERROR(CheckNotFused(place));
  return MakeByteLevelDecoder(/*lossy=*/!place.last);
}

DecoderStepOr MakeFuseDecoder(const json& step, const DecoderPlace&) {
  RETURN_IF_ERROR(CheckKeys(step, {"type"}));
  return std::make_unique<StepOf<FuseRun>>(FuseRun::Options{}, /*fuses=*/true);
}

DecoderStepOr MakeByteFallbackDecoder(const json& step,
                                      const DecoderPlace& place) {
  RETURN_IF_ERROR(CheckKeys(step, {"type"}));
  RETURN_IF_ERROR(CheckNotFused(place));
  return std::make_unique<StepOf<ByteFallbackRun>>(ByteFallbackRun::Options{});
}

DecoderStepOr MakeMetaspaceDecoder(const json& step, const DecoderPlace&) {
  ASSIGN_OR_RETURN(MetaspaceOptions options, ReadMetaspace(step));
  return std::make_unique<StepOf<MetaspaceRun>>(std::move(options));
}

DecoderStepOr MakeStripDecoder(const json& step, const DecoderPlace&) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "content", "start", "stop"}));
  StripRun::Options options;
  RETURN_IF_ERROR(JsonCharacter(step, "content").status());
  ASSIGN_OR_RETURN(options.content, JsonString(step, "content"));
  constexpr int64_t kMost = 1'000'000;
  ASSIGN_OR_RETURN(options.start, JsonInt(step, "start", 0, kMost));
  ASSIGN_OR_RETURN(options.stop, JsonInt(step, "stop", 0, kMost));
  return std::make_unique<StepOf<StripRun>>(std::move(options));
}

DecoderStepOr MakeReplaceDecoder(const json& step, const DecoderPlace& place) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "pattern", "content"}));
  ASSIGN_OR_RETURN(TextPattern pattern, TextPattern::Read(step));
  // Of a string that is sought in one long token a beginning may wait.
  constexpr size_t kMaxString = 256;
  if (pattern.string() == nullptr || pattern.string()->size() > kMaxString) {
    RETURN_IF_ERROR(CheckNotFused(place));
  }
  ASSIGN_OR_RETURN(std::string content, JsonString(step, "content"));
  return std::make_unique<StepOf<ReplaceRun>>(
      ReplaceRun::Options{std::move(pattern), std::move(content)});
}

DecoderStepOr MakeWordPieceDecoder(const json& step,
                                   const DecoderPlace& place) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "prefix", "cleanup"}));
  RETURN_IF_ERROR(CheckNotFused(place));
  WordPieceRun::Options options;
  ASSIGN_OR_RETURN(options.prefix, JsonString(step, "prefix"));
  ASSIGN_OR_RETURN(options.cleanup, JsonBool(step, "cleanup"));
  return std::make_unique<StepOf<WordPieceRun>>(std::move(options));
}

DecoderStepOr MakeBpeDecoder(const json& step, const DecoderPlace& place) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "suffix"}));
  RETURN_IF_ERROR(CheckNotFused(place));
  BpeRun::Options options;
  ASSIGN_OR_RETURN(options.suffix, JsonString(step, "suffix"));
  if (options.suffix.empty()) {
    return absl::UnimplementedError("'suffix' must not be empty");
  }
  return std::make_unique<StepOf<BpeRun>>(std::move(options));
}

}  // namespace ounce::model
