// What is refused, and what is matched where the two libraries differ. Whole
// patterns are compared with the reference in steps_test.cc.
#include "model/tokenizer/onig_pattern.h"

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/regex.h"
#include "nlohmann/json.hpp"
#include "tests/model/tokenizer/golden_files.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(OnigPatternTest, RefusesWhatDiffersByName) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"(\X)", R"('\\X')"},
      {R"(\G)", R"('\\G')"},
      {R"(\y)", R"('\\y')"},
      {R"(\Y)", R"('\\Y')"},
      {R"(\M-a)", R"('\\M')"},
      {R"(\C-a)", R"('\\C')"},
      {R"(\o{12})", R"('\\o')"},
      {R"(\c\\a)", R"('\\c\\')"},
      {R"([\1])", R"('\\1')"},
      {R"((a)\10)", R"('\\10')"},
      {R"(\k<x+1>)", R"(the name 'x+1')"},
      {R"((?s:.))", "'(?s:'"},
      {R"((?W:a))", "'(?W:'"},
      {R"((?y{w}))", "'(?y{'"},
      {R"((?P<x>a))", "'(?P<'"},
      {R"((?|a|b))", "'(?|a'"},
      {R"((?{x})a)", "'(?{x'"},
      {R"((*FAIL))", "'(*FA'"},
      {R"((?~|a|b))", "'(?~|'"},
      {R"((?~a(?~b)))", "'(?~' in another"},
      {R"((?~a\g<0>))", "a call in '(?~'"},
      {R"((a*){2})", "a repeat, twice or more, of what may be empty"},
      {R"((a)(?(1)b))", "a condition without '|'"},
      {R"((?<x>a)|(?<x>b)(?(<x>)a|b))", "a condition on several groups"},
      {R"((?((a))b|c)\1)", "a condition with a group that is referred to"},
      {R"((a)\1\g<1>)", "a call beside a reference"},
      {R"((a*)*\1)", "a repeat of what may be empty around a group"},
      {R"((?<g>a\g<g>b\g<g>))", "so long a pattern"},
      {R"((?:ab){1}+)", "a repeat behind (?:ab){1}"},
      {R"(a{70000})", "a repeat of more than 65535"},
      {R"([[:foo:]])", "'[:'"},
      {R"([a-\d])", "a range that ends with a set"},
      {R"([a-[b]])", "a range that ends with a set"},
      {R"([\d-a])", "a range that begins with a set"},
      {R"(\p{Greek_Extended})", "property 'Greek_Extended'"},
      {R"(\p{Kirat_Rai})", "property 'Kirat_Rai'"},
      {R"(\p{Emoji})", "property 'Emoji'"},
      {R"(\xE4)", R"('\\xE4')"},
      {R"(\u12)", R"('\\u12')"},
      {R"(\x{110000})", R"('\\x{110000}')"},
      {R"((?i:strasse))", "\"st\" in (?i:)"},
      {R"((?i:s(?:s)))", "\"ss\" in (?i:)"},
      {R"((?i:s{1}s))", "\"ss\" in (?i:)"},
      {R"((?i)a|FF)", "\"ff\" in (?i:)"},
      {"(?i:\u00e9)", "beyond ASCII in (?i:)"},
      {R"((?i:[\p{L}]x))", "a set of more than ASCII in (?i:)"},
      {R"((?i:(a)\1))", "a reference in (?i:)"},
      {R"((?<=\R)a)", "a look-behind of varying length"},
      {R"((?<=a+)b)", "a look-behind of varying length"},
      {R"((?=\K)a)", R"('\\K' in a look-around)"},
      {R"(a)b)", "')' without '('"},
      {"\\", R"('\' at the end)"},
  };
  for (const auto& [pattern, found] : cases) {
    EXPECT_THAT(Regex::CompileOnig(pattern),
                StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(found)))
        << pattern;
  }
  std::string repeats = "a";
  for (int i = 0; i < 5'000; ++i) repeats += "{2}{1,2}";
  EXPECT_THAT(FromOnigPattern(repeats),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("nesting")));
  std::string deep;
  for (int i = 0; i < 10'000; ++i) deep += "(";
  EXPECT_THAT(FromOnigPattern(deep),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("nesting")));
  for (char& c : deep) c = '[';
  EXPECT_THAT(FromOnigPattern(deep),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("nesting")));
}

// \b is as long as three of \w.
TEST(OnigPatternTest, RefusesWhatIsTooLongForPcre) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "\\b";
  EXPECT_THAT(Regex::CompileOnig(pattern),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("so long a pattern")));
}

TEST(OnigPatternTest, RefusesWhatIsNoPattern) {
  for (const char* pattern : {"(a",         "[a",     "[b-a]",
                              "[]",         "*",      "{2}",
                              "(+)",        "^*",     "(?:a|^)*",
                              "\\b?",       "(?=a)+", "\\K*",
                              "\\1",        "(a)\\2", "\\k<x>(?<x>a)",
                              "(?<x>a)\\1", "\\g<x>", "(?<x>a)(?<x>b)\\g<x>",
                              "(?#",        "\\p{L"}) {
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

// What tools/make_regex_goldens.py wrote: each construct over texts of all
// kinds.
TEST(OnigPatternTest, FindsWhatTheReferenceFinds) {
  int num_cases = 0;
  for (const std::string& line : GoldenLines("regex.jsonl")) {
    const auto golden = nlohmann::json::parse(line);
    const std::string pattern = golden[0];
    const auto regex = Regex::CompileOnig(pattern);
    EXPECT_OK(regex) << pattern;
    if (!regex.ok()) continue;
    for (const auto& [text_of, all_of, others_of] :
         golden[1]
             .get<std::vector<std::tuple<std::string, std::vector<std::string>,
                                         std::vector<std::string>>>>()) {
      const std::string& text = text_of;
      std::vector<std::string> all;
      std::vector<std::string> others;
      size_t done = 0;
      const auto add_other = [&](size_t end) {
        if (end == done) return;
        all.push_back(text.substr(done, end - done));
        others.push_back(all.back());
      };
      EXPECT_OK(regex->ForEachMatch(text, [&](size_t begin, size_t end) {
        add_other(begin);
        if (end > begin) all.push_back(text.substr(begin, end - begin));
        done = end;
        return absl::OkStatus();
      }));
      add_other(text.size());
      EXPECT_EQ(all, all_of) << pattern << " in " << text;
      EXPECT_EQ(others, others_of) << pattern << " in " << text;
      ++num_cases;
    }
  }
  EXPECT_GT(num_cases, 3000);
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

// Where PCRE2 looks for a first and a last letter before it matches.
TEST(OnigPatternTest, FindsWhatBeginsAtTheLastPlaceThatItCould) {
  EXPECT_THAT(Matches("(?=a)b?a", "abba"), ElementsAre("a", "a"));
  EXPECT_THAT(Matches("(?:b|)b*[ab]", "bc"), ElementsAre("b"));
}

// Where PCRE2 takes a repeat for one that gives nothing back.
TEST(OnigPatternTest, FindsWhatARepeatMustGiveBackFor) {
  EXPECT_THAT(Matches("x*(?:ab)?+x", "xb"), ElementsAre("x"));
  EXPECT_THAT(Matches("x*(?>|a)x", "xb"), ElementsAre("x"));
  EXPECT_THAT(Matches(R"(\s*(?:ab)?+\s)", " b"), ElementsAre(" "));
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
