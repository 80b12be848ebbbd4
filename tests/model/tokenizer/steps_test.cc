// Every normalizer and pre-tokenizer, and whole pipelines, against Hugging Face
// `tokenizers`: what tools/make_step_goldens.py wrote. And what none of them
// may do: take time by the square of a text.
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/tokenizer_json.h"
#include "nlohmann/json.hpp"
#include "tests/model/tokenizer/golden_files.h"
#include "tests/testing/encode_utf8.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using ::ounce::testing::EncodeUtf8;
using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

using TokenizerPtr = std::unique_ptr<const Tokenizer>;

// A tokenizer without any token of its own: each character falls back to its
// bytes, whose ids are their values, and "</w>" stands behind each word.
absl::StatusOr<TokenizerPtr> WithStep(const std::string& part,
                                      const json& step) {
  json vocabulary = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    constexpr char kDigits[] = "0123456789ABCDEF";
    const std::string token = {
        '<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
    vocabulary[token] = byte;
  }
  json root = {{"model",
                {{"type", "BPE"},
                 {"byte_fallback", true},
                 {"end_of_word_suffix", "</w>"},
                 {"vocab", vocabulary},
                 {"merges", json::array()}}}};
  root[part] = step;
  return ParseTokenizerJson("t", root.dump());
}

absl::StatusOr<std::string> Words(const Tokenizer& tokenizer,
                                  const std::string& text) {
  const absl::StatusOr<std::vector<int32_t>> ids = tokenizer.Encode(text);
  if (!ids.ok()) return ids.status();
  std::string words;
  for (const int32_t id : *ids) words.push_back(static_cast<char>(id));
  return words;
}

json Bpe(const json& vocabulary, const json& merges) {
  return {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}};
}

TEST(StepsTest, DoWhatTheReferenceDoes) {
  std::set<std::string> types;
  for (const std::string& line : GoldenLines("steps.jsonl")) {
    const json golden = json::parse(line);
    const std::string part =
        golden.contains("normalizer") ? "normalizer" : "pre_tokenizer";
    const json& step = golden[part];
    SCOPED_TRACE(step.dump());
    ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer, WithStep(part, step));
    for (const json& text_and_words : golden["cases"]) {
      ASSERT_OK_AND_ASSIGN(
          const std::string words,
          Words(*tokenizer, text_and_words[0].get<std::string>()));
      EXPECT_EQ(words, text_and_words[1].get<std::string>())
          << text_and_words[0].dump();
    }
    types.insert(part + step["type"].get<std::string>());
  }
  EXPECT_EQ(types.size(), 25u);
}

std::string Mended(const std::string& bytes) {
  std::string text;
  LossyUtf8 mended;
  mended.Push(bytes, text);
  mended.Finish(text);
  return text;
}

std::string Streamed(const Tokenizer& tokenizer,
                     const std::vector<int32_t>& ids) {
  StreamDecoder decoder(tokenizer);
  std::string text;
  for (const int32_t id : ids) text += decoder.Push(id);
  return text + decoder.Finish();
}

TEST(PipelineTest, GivesTheIdsAndTextsOfTheReference) {
  int num_tokenizers = 0;
  for (const std::string& line : GoldenLines("pipelines.jsonl")) {
    const json golden = json::parse(line);
    SCOPED_TRACE(golden["name"].get<std::string>());
    ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                         ParseTokenizerJson("t", golden["tokenizer"].dump()));
    for (const json& test : golden["cases"]) {
      SCOPED_TRACE(test[0].dump());
      const auto wanted = test[1].get<std::vector<int32_t>>();
      ASSERT_OK_AND_ASSIGN(const auto ids,
                           tokenizer->Encode(test[0].get<std::string>()));
      EXPECT_EQ(ids, wanted);
      EXPECT_EQ(Streamed(*tokenizer, wanted),
                Mended(tokenizer->Decode(wanted)));
      if (test[2].is_null()) continue;  // the reference panics
      EXPECT_EQ(Mended(tokenizer->Decode(wanted, /*skip_special=*/false)),
                test[2].get<std::string>());
      EXPECT_EQ(Mended(tokenizer->Decode(wanted)), test[3].get<std::string>());
    }
    ++num_tokenizers;
  }
  EXPECT_GE(num_tokenizers, 45);
}

TEST(StreamTest, ShowsATextAsItGrows) {
  const json decoder = {
      {"type", "Sequence"},
      {"decoders",
       {{{"type", "Replace"},
         {"pattern", {{"String", "\u2581"}}},
         {"content", " "}},
        {{"type", "ByteFallback"}},
        {{"type", "Fuse"}},
        {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  const json root = {
      {"decoder", decoder},
      {"model", Bpe({{"\u2581a", 0}, {"b", 1}, {"<0xC3>", 2}, {"<0xA9>", 3}},
                    json::array())}};
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       ParseTokenizerJson("t", root.dump()));
  StreamDecoder decoding(*tokenizer);
  // Only the first space of all is stripped.
  EXPECT_EQ(decoding.Push(0), "a");
  EXPECT_EQ(decoding.Push(0), " a");
  // Bytes wait for what shows whether all of them are text.
  EXPECT_EQ(decoding.Push(2), "");
  EXPECT_EQ(decoding.Push(3), "");
  EXPECT_EQ(decoding.Push(1), "\u00e9b");
  EXPECT_EQ(decoding.Push(2), "");
  EXPECT_EQ(decoding.Push(3), "");
  EXPECT_EQ(decoding.Push(2), "");
  EXPECT_EQ(decoding.Push(1), "\ufffd\ufffd\ufffdb");
  EXPECT_EQ(decoding.Push(2), "");
  EXPECT_EQ(decoding.Finish(), "\ufffd");
}

TEST(StreamTest, TakesNoLongerForALaterToken) {
  const json steps[] = {
      {{"type", "Fuse"}},
      {{"type", "ByteFallback"}},
      {{"type", "Metaspace"}, {"replacement", "\u2581"}},
      {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}},
      {{"type", "BPEDecoder"}, {"suffix", "</w>"}},
      {{"type", "Sequence"},
       {"decoders",
        {{{"type", "Fuse"}},
         {{"type", "Replace"},
          {"pattern", {{"String", "ba"}}},
          {"content", "x"}},
         {{"type", "Strip"}, {"content", "x"}, {"start", 5}, {"stop", 5}}}}}};
  const auto start = std::chrono::steady_clock::now();
  for (const json& step : steps) {
    SCOPED_TRACE(step.dump());
    const json root = {
        {"decoder", step},
        {"model", Bpe({{"ab", 0}, {"<0xC3>", 1}}, json::array())}};
    ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                         ParseTokenizerJson("t", root.dump()));
    for (const int32_t id : {0, 1}) {
      StreamDecoder decoding(*tokenizer);
      size_t length = 0;
      for (int i = 0; i < 300'000; ++i) length += decoding.Push(id).size();
      EXPECT_GT(length + decoding.Finish().size(), 250'000u);
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

// Each step with long texts that are hard for some: a square of their lengths
// would take minutes each.
TEST(StepsTest, TakeLongTextsInLittleTime) {
  constexpr size_t kSize = 400'000;
  const auto repeated = [](const std::string& unit) {
    std::string text;
    while (text.size() < kSize) text += unit;
    return text;
  };
  const std::vector<std::string> texts = {
      repeated("a"),       repeated(" "),
      repeated("\n"),      repeated("1"),
      repeated("."),       repeated("\u4e2d"),
      repeated("a "),      repeated("\u0301\u0316"),
      repeated("\ufdfa"),  repeated("\u200d"),
      repeated("  x\r\n"), repeated("\U0001f469\u200d")};
  std::set<std::string> seen;
  for (const std::string& line : GoldenLines("steps.jsonl")) {
    const json golden = json::parse(line);
    const std::string part =
        golden.contains("normalizer") ? "normalizer" : "pre_tokenizer";
    const json& step = golden[part];
    // Of patterns only those that families publish.
    if (step["type"] == "Split" &&
        step["pattern"].value("Regex", "").size() < 20) {
      continue;
    }
    SCOPED_TRACE(step.dump());
    ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer, WithStep(part, step));
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto words = Words(*tokenizer, texts[i]);
      EXPECT_TRUE(words.ok() || absl::IsResourceExhausted(words.status()))
          << i << ": " << words.status();
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start,
              std::chrono::seconds(60));
  }
}

TEST(StepsTest, GiveUpOnAPatternThatTriesEveryWay) {
  const json step = {{"type", "Split"},
                     {"pattern", {{"Regex", "(?:a+b?)+[bc]"}}},
                     {"behavior", "Isolated"},
                     {"invert", false}};
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       WithStep("pre_tokenizer", step));
  EXPECT_THAT(tokenizer->Encode(std::string(100, 'a')),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("regular expression failed at byte 0")));
  EXPECT_OK(tokenizer->Encode("aab"));
}

// What one piece may take is no more for many of them, whatever cuts them.
TEST(StepsTest, GiveUpOnATextWhosePiecesTakeTooManyStepsTogether) {
  const json split = {{"type", "Split"},
                      {"pattern", {{"Regex", "(?:a+b?)+[bc]"}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const json pieces = {{"type", "CharDelimiterSplit"}, {"delimiter", " "}};
  const json steps = {{"type", "Sequence"}, {"pretokenizers", {pieces, split}}};
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       WithStep("pre_tokenizer", steps));
  const std::string piece = std::string(20, 'a') + " ";
  EXPECT_OK(tokenizer->Encode(piece));
  std::string text;
  for (int i = 0; i < 50; ++i) text += piece;
  EXPECT_THAT(tokenizer->Encode(text),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("regular expression failed")));
  // Each call has its own.
  for (int i = 0; i < 50; ++i) EXPECT_OK(tokenizer->Encode(piece));

  const json replace = {{"type", "Replace"},
                        {"pattern", {{"Regex", "(?:a+b?)+[bc]"}}},
                        {"content", ""}};
  const json many = {{"type", "Sequence"},
                     {"normalizers", std::vector<json>(50, replace)}};
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr normalizing,
                       WithStep("normalizer", many));
  EXPECT_THAT(normalizing->Encode(piece),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

// Numbers cut in threes from the right: each match looks at all that follows.
TEST(StepsTest, GiveUpOnAPatternThatLooksAtTheWholeRestForEver) {
  const json step = {{"type", "Split"},
                     {"pattern", {{"Regex", R"(\d{1,3}(?=(?:\d{3})*(?!\d)))"}}},
                     {"behavior", "Isolated"},
                     {"invert", false}};
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       WithStep("pre_tokenizer", step));
  EXPECT_OK(tokenizer->Encode(std::string(3'000, '1')));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(tokenizer->Encode(std::string(1'000'000, '1')),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

TEST(StepsTest, GiveUpOnReplacementsThatMakeATextTooLong) {
  const json step = {{"type", "Replace"},
                     {"pattern", {{"String", "a"}}},
                     {"content", std::string(1'000, 'b')}};
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       WithStep("normalizer", step));
  EXPECT_OK(tokenizer->Encode("abca"));
  EXPECT_THAT(
      tokenizer->Encode(std::string(100'000, 'a')),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("too long")));
}

// A map may give many bytes for one character, too.
TEST(StepsTest, GiveUpOnAMapThatMakesATextTooLong) {
  // A trie for "a" alone, whose value is the text at 0: root, then the unit
  // with label 'a' and a value, then the value.
  std::string map;
  const auto append = [&](uint32_t word) {
    for (int i = 0; i < 4; ++i) map.push_back(static_cast<char>(word >> 8 * i));
  };
  const uint32_t units = 0x62;
  append(units * 4);
  for (uint32_t i = 0; i < units; ++i) {
    // The root's children begin at 0; those of 'a', at 0x61, at 0x60.
    append(i == 0x61 ? 1u << 10 | 1u << 8 | 'a' : i == 0x60 ? 1u << 31 : 0);
  }
  map += std::string(100'000, 'b');
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       WithStep("normalizer", {{"type", "Precompiled"},
                                               {"precompiled_charsmap",
                                                absl::Base64Escape(map)}}));
  EXPECT_OK(tokenizer->Encode("xyz"));
  EXPECT_THAT(
      tokenizer->Encode(std::string(100'000, 'a')),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("too long")));
}

// A text that is one word: Llama's, without any pre-tokenizer, which BPE cuts
// where nothing merges; and one that can't be cut.
TEST(PipelineTest, MergesATextWithoutWordsInLittleTime) {
  std::string llama;
  for (const std::string& line : GoldenLines("pipelines.jsonl")) {
    const json golden = json::parse(line);
    if (golden["name"] == "llama 2") llama = golden["tokenizer"].dump();
  }
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       ParseTokenizerJson("t", llama));
  const auto start = std::chrono::steady_clock::now();
  for (const char* unit : {"a", "er", "the ", " ", "\u4e2d", "in\n\u00e9"}) {
    std::string text;
    while (text.size() < 2'000'000) text += unit;
    ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer->Encode(text));
    EXPECT_TRUE(tokenizer->Decode(ids) == text) << unit;
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start,
            std::chrono::seconds(100));
}

// Steps that each make a text longer, as many as a file may have.
TEST(StepsTest, GiveUpOnStepsThatDoubleATextOverAndOver) {
  const json replace = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  const json many = {{"type", "Sequence"},
                     {"normalizers", json::array_t(60, replace)}};
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       WithStep("normalizer", many));
  EXPECT_OK(tokenizer->Encode("b"));
  EXPECT_THAT(
      tokenizer->Encode("a"),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("too long")));
  EXPECT_THAT(
      WithStep(
          "pre_tokenizer",
          {{"type", "Sequence"},
           {"pretokenizers", json::array_t(4, {{"type", "ByteLevel"},
                                               {"add_prefix_space", false}})}}),
      StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("at most 3 times")));
  json::array_t steps(60, replace);
  for (const bool fused : {false, true}) {
    if (fused) steps.insert(steps.begin(), json{{"type", "Fuse"}});
    const json decoder = {{"type", "Sequence"}, {"decoders", steps}};
    ASSERT_OK_AND_ASSIGN(
        const TokenizerPtr decoding,
        ParseTokenizerJson("t",
                           json({{"decoder", decoder},
                                 {"model", Bpe({{"a", 0}}, json::array())}})
                               .dump()));
    EXPECT_LT(decoding->Decode({0, 0}).size(), 200'000u);
  }
}

// The trie and its texts come out of a file: each byte of it changed, and cut.
TEST(StepsTest, SurviveEveryChangeOfAPrecompiledMap) {
  std::string map;
  for (const std::string& line : GoldenLines("steps.jsonl")) {
    const json golden = json::parse(line);
    if (!golden.contains("normalizer")) continue;
    if (golden["normalizer"]["type"] != "Precompiled") continue;
    map = golden["normalizer"]["precompiled_charsmap"].get<std::string>();
  }
  ASSERT_GT(map.size(), 100u);
  std::string every_character;
  for (const char32_t c : {0x21, 0x301, 0xfb01, 0xff01, 0xff5e, 0x65e5}) {
    every_character += EncodeUtf8(c);
  }
  int loaded = 0;
  const auto exercise = [&](const std::string& changed) {
    const auto tokenizer =
        WithStep("normalizer",
                 {{"type", "Precompiled"}, {"precompiled_charsmap", changed}});
    if (!tokenizer.ok()) return;
    ++loaded;
    EXPECT_OK((*tokenizer)->Encode(every_character));
  };
  for (size_t i = 0; i < map.size(); i += 61) {
    exercise(map.substr(0, i));
    exercise(map.substr(0, i & ~size_t{3}));
    std::string changed = map;
    changed[i] = changed[i] == '/' ? 'A' : '/';
    exercise(changed);
  }
  EXPECT_GT(loaded, 10);
  EXPECT_THAT(WithStep("normalizer", {{"type", "Precompiled"},
                                      {"precompiled_charsmap", "!"}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'precompiled_charsmap' is not base64")));
  // A trie that is longer than all.
  EXPECT_THAT(WithStep("normalizer", {{"type", "Precompiled"},
                                      {"precompiled_charsmap", "////fw=="}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("ends within its trie")));
}

}  // namespace
}  // namespace ounce::model
