// What is refused, and what is matched where the two libraries differ. Whole
// patterns are compared with the reference in steps_test.cc.
#include "model/tokenizer/onig_pattern.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/regex.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(OnigPatternTest, RefusesWhatDiffersByName) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"(\bword)", R"('\\b')"},
      {R"(\B)", R"('\\B')"},
      {R"(\X)", R"('\\X')"},
      {R"(\R)", R"('\\R')"},
      {R"(\G)", R"('\\G')"},
      {R"(\K)", R"('\\K')"},
      {R"((a)\1)", R"('\\1')"},
      {R"(\k<x>)", R"('\\k')"},
      {R"((?<x>a))", "'(?<x'"},
      {R"((?x: a))", "'(?x:'"},
      {R"((?~a))", "'(?~a'"},
      {R"((?s:.))", "'(?s:'"},
      {R"(a{1,2}+)", "'+' behind '}'"},
      {R"(a{2}?)", "'?' behind '{n}'"},
      {R"([[:alpha:]])", "'[:'"},
      {R"([])", "']' first in a set"},
      {R"([a-\d])", "a range that ends with a set"},
      {R"([a&&])", "'&&' without a set behind it"},
      {R"(\p{Greek_Extended})", "property 'Greek_Extended'"},
      {R"(\pL)", R"('\p' without braces)"},
      {R"(\p{L)", R"('\p' without braces)"},
      {R"(\xE4)", R"('\\xE4')"},
      {R"(\u12)", R"('\\u12')"},
      {R"(\x{110000})", R"('\\x{110000}')"},
      {R"((?i:strasse))", "\"st\" in (?i:)"},
      {R"((?i)a|FF)", "\"ff\" in (?i:)"},
      {"(?i:\u00e9)", "beyond ASCII in (?i:)"},
      {R"(a)b)", "')' without '('"},
      {"\\", R"('\' at the end)"},
  };
  for (const auto& [pattern, found] : cases) {
    EXPECT_THAT(FromOnigPattern(pattern),
                StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(found)))
        << pattern;
  }
  std::string deep;
  for (int i = 0; i < 10'000; ++i) deep += "(";
  EXPECT_THAT(FromOnigPattern(deep),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("nesting")));
  for (char& c : deep) c = '[';
  EXPECT_THAT(FromOnigPattern(deep),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("nesting")));
}

TEST(OnigPatternTest, RefusesWhatIsNoPattern) {
  for (const char* pattern : {"(a", "[a", "[b-a]", "*", "(?<=a+)b", "a{3,2}"}) {
    EXPECT_FALSE(Regex::CompileOnig(pattern).ok()) << pattern;
  }
  EXPECT_THAT(Regex::CompileOnig(std::string(100'000, 'a')),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("must have at most 65536 bytes, has 100000")));
}

// A property is long in PCRE2's syntax, and many of them are memory.
TEST(OnigPatternTest, RefusesMorePropertiesThanAnyPatternHas) {
  std::string pattern;
  for (int i = 0; i < 20'000; ++i) pattern += "\\w";
  for (const std::string& many : {pattern, "[" + pattern + "]"}) {
    EXPECT_THAT(FromOnigPattern(many),
                StatusIs(absl::StatusCode::kUnimplemented,
                         HasSubstr("so long a pattern")));
  }
}

// Nor is what a pattern became repeated in an error.
TEST(OnigPatternTest, SaysInFewWordsWhatPcreRefuses) {
  const auto regex = Regex::CompileOnig(std::string(50'000, '*'));
  ASSERT_THAT(regex, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_LT(regex.status().message().size(), 400u);
}

std::vector<std::string> Matches(const std::string& pattern,
                                 const std::string& text) {
  std::vector<std::string> matches;
  const auto regex = Regex::CompileOnig(pattern);
  EXPECT_OK(regex);
  if (!regex.ok()) return matches;
  EXPECT_OK(regex->ForEachMatch(text, [&](size_t begin, size_t end) {
    matches.push_back(text.substr(begin, end - begin));
    return absl::OkStatus();
  }));
  return matches;
}

TEST(OnigPatternTest, UnitesAndIntersectsSets) {
  EXPECT_THAT(Matches("[a[bc]d]+", "xabcdx"), ElementsAre("abcd"));
  EXPECT_THAT(Matches("[^a[bc]]+", "abxyc"), ElementsAre("xy"));
  EXPECT_THAT(Matches("[a[^b-z]]+", "ab1c"), ElementsAre("a", "1"));
  EXPECT_THAT(Matches("[^a[^b]]", "abc"), ElementsAre("b"));
  EXPECT_THAT(Matches(R"([\p{L}&&[^a-c]]+)", "abdec1f"),
              ElementsAre("de", "f"));
  EXPECT_THAT(Matches("[^a-d&&b-e]+", "abcdef"), ElementsAre("a", "ef"));
  EXPECT_THAT(Matches("[(|.]+", "a(|.)"), ElementsAre("(|."));
}

TEST(OnigPatternTest, SeesLinesEverywhere) {
  EXPECT_THAT(Matches("^b|a$", "a\nb"), ElementsAre("a", "b"));
  EXPECT_THAT(Matches(R"(\Ab|a\z)", "a\nb"), ElementsAre());
  EXPECT_THAT(Matches("a.b", "a\nb"), ElementsAre());
  EXPECT_THAT(Matches("(?m:a.b)", "a\nb"), ElementsAre("a\nb"));
}

TEST(OnigPatternTest, GivesAnEmptyMatchOnceBetweenOthers) {
  EXPECT_THAT(Matches("a*", "baac"), ElementsAre("", "aa", ""));
}

// A set in several parts is still one set: a character that two of them have
// doesn't double the ways to match.
TEST(OnigPatternTest, TakesNoMoreWaysForASetInParts) {
  EXPECT_THAT(Matches(R"([ \P{L}\W]{2,}x|y)", std::string(500, ' ') + "y"),
              ElementsAre("y"));
}

// Compiled code has little stack; then PCRE2 interprets.
TEST(OnigPatternTest, MatchesARunThatCompiledCodeHasNoStackFor) {
  const std::string text(2'000'000, 'b');
  EXPECT_THAT(Matches("(?:[^a[^b]])+", text), ElementsAre(text));
}

}  // namespace
}  // namespace ounce::model
