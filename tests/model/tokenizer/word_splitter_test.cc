#include "model/tokenizer/word_splitter.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/utf8.h"
#include "tests/model/tokenizer/golden_files.h"
#include "tests/testing/encode_utf8.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::EncodeUtf8;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class WordSplitterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(splitter_, WordSplitter::Create());
  }
  std::vector<std::string> Split(std::string_view text) {
    std::vector<std::string> words;
    EXPECT_OK(splitter_->Split(
        text, [&](std::string_view word) { words.emplace_back(word); }));
    return words;
  }

  std::unique_ptr<const WordSplitter> splitter_;
};

TEST_F(WordSplitterTest, CutsAsThePatternOfGpt2Does) {
  EXPECT_THAT(Split(""), IsEmpty());
  EXPECT_THAT(
      Split("Hello my friend, it's 12!"),
      ElementsAre("Hello", " my", " friend", ",", " it", "'s", " 12", "!"));
  EXPECT_THAT(Split("a  b\n\n c "),
              ElementsAre("a", " ", " b", "\n\n", " c", " "));
  EXPECT_THAT(Split("they'll'S"), ElementsAre("they", "'ll", "'", "S"));
  EXPECT_THAT(Split("x\u3000\u00a0y"),
              ElementsAre("x", "\u3000", "\u00a0", "y"));
  EXPECT_THAT(Split("\u0663\u00bd\u4e2d\u0301"),
              ElementsAre("\u0663\u00bd", "\u4e2d", "\u0301"));
  EXPECT_THAT(Split(std::string_view("a\0\0b", 4)),
              ElementsAre("a", std::string(2, '\0'), "b"));
}

// Every code point behind a letter, a number and a punctuation mark, against
// what the reference did with it.
TEST_F(WordSplitterTest, ClassifiesEveryCodePointAsTheReference) {
  std::vector<std::string> classes(0x110000);
  int ranges = 0;
  for (const std::string& line : GoldenLines("unicode_classes.txt")) {
    if (line[0] == '#') continue;
    std::istringstream in(line);
    uint32_t first = 0;
    uint32_t last = 0;
    std::string kind;
    in >> std::hex >> first >> last >> kind;
    ASSERT_LT(last, classes.size());
    for (uint32_t c = first; c <= last; ++c) classes[c] = kind;
    ++ranges;
  }
  ASSERT_GT(ranges, 1000);

  for (uint32_t c = 0; c < classes.size(); ++c) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    const std::string text = EncodeUtf8(c);
    const auto joins = [&](const char* before) {
      int words = 0;
      EXPECT_OK(
          splitter_->Split(before + text, [&](std::string_view) { ++words; }));
      return words == 1;
    };
    const char* kind = joins("a")   ? "L"
                       : joins("1") ? "N"
                       : joins("!") ? ""
                                    : "s";
    const bool word = splitter_->StartsWithWordCharacter(text + "!");
    ASSERT_EQ(splitter_->EndsWithWordCharacter("!" + text), word);
    ASSERT_EQ(LeadingSpaceBytes(text) != 0, kind[0] == 's') << std::hex << c;
    ASSERT_EQ(classes[c], std::string(kind) + (word ? "w" : ""))
        << std::hex << c;
  }
}

TEST_F(WordSplitterTest, HasNoWordCharacterInNothing) {
  EXPECT_FALSE(splitter_->StartsWithWordCharacter(""));
  EXPECT_FALSE(splitter_->EndsWithWordCharacter(""));
}

// PCRE2 has limits on matching that a long run must not reach.
TEST_F(WordSplitterTest, TakesRunsOfTenMegabytes) {
  for (const char* unit : {"a", " ", "1", "!", "\n", "\u3000", "\u4e2d"}) {
    std::string text;
    while (text.size() < 10'000'000) text += unit;
    EXPECT_THAT(Split(text), ElementsAre(text)) << unit;
    // The last white space goes to what follows it, or stays alone.
    const size_t pieces = Split(text + "x").size();
    EXPECT_TRUE(pieces == 1 || pieces == 2 || pieces == 3) << unit;
  }
}

}  // namespace
}  // namespace ounce::model
