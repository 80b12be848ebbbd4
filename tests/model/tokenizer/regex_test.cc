#include "model/tokenizer/regex.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::string Repeated(std::string_view text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

std::vector<std::pair<size_t, size_t>> Matches(std::string_view pattern,
                                               const std::string& text) {
  std::vector<std::pair<size_t, size_t>> found;
  EXPECT_OK(Regex::CompileOnig(pattern)->ForEachMatch(
      text, [&](size_t begin, size_t end) {
        found.emplace_back(begin, end);
        return absl::OkStatus();
      }));
  return found;
}

// A text is searched in stretches, which begin and end anywhere in it.
TEST(RegexTest, FindsWhatIsFarAway) {
  for (const int before : {1, 63, 64, 65, 1'000, 30'000}) {
    const size_t at = size_t{2} * before;
    const std::string text = Repeated("ü", before) + "é";
    EXPECT_THAT(Matches("é", text), ElementsAre(Pair(at, at + 2)));
    EXPECT_THAT(Matches("ü{2}é|é$", text),
                ElementsAre(Pair(before < 2 ? at : at - 4, at + 2)));
    EXPECT_THAT(Matches("(?<=ü)é", text), ElementsAre(Pair(at, at + 2)));
    EXPECT_THAT(Matches("a", text), ElementsAre());
    EXPECT_THAT(Matches("\\z", text), ElementsAre(Pair(at + 2, at + 2)));
  }
}

// Each takes time by the square or cube of the text, and hardly a step at a
// place.
TEST(RegexTest, GivesUpInTimeOnWhatLooksAtAllOfTheTextFromEveryPlace) {
  const std::string words = Repeated("some words and ", 20'000);
  const std::string letters(300'000, 'x');
  const std::vector<std::pair<const char*, std::string>> cases = {
      {R"((?:\r?\n)+(?=\S))", std::string(300'000, '\n')},
      {R"((?:ab)+(?=\S\s))", Repeated("ab", 150'000)},
      {"(?=(.*)z)", letters},
      {".*.*.*.*=.*", letters},
      {R"((.*)\1$)", letters + "y"},
      {R"(\b(\w+)\b(?=.*\b\1\b))", words + "\n"},
      // Matches everywhere, and looks at the rest each time.
      {"x(?=.*y)", letters + "y"},
  };
  for (const auto& [pattern, text] : cases) {
    const auto regex = Regex::CompileOnig(pattern);
    ASSERT_OK(regex.status()) << pattern;
    RegexBudget budget(absl::Milliseconds(50));
    const absl::Status status = regex->ForEachMatch(
        text, budget, [](size_t, size_t) { return absl::OkStatus(); });
    EXPECT_THAT(status,
                testing::StatusIs(absl::StatusCode::kResourceExhausted,
                                  HasSubstr("regular expression failed")))
        << pattern;
    // What a single place takes more, at the most.
    EXPECT_GT(budget.time_left(), -absl::Seconds(1)) << pattern;
  }
}

TEST(RegexTest, SearchesOfOneBudgetShareItsTime) {
  const auto regex = Regex::CompileOnig("(?=(.*)z)");
  ASSERT_OK(regex.status());
  const auto none = [](size_t, size_t) { return absl::OkStatus(); };
  const std::string text(6'000, 'x');
  RegexBudget budget(absl::Milliseconds(100));
  absl::Status status;
  int searches = 0;
  for (; status.ok() && searches < 100'000; ++searches) {
    status = regex->ForEachMatch(text, budget, none);
  }
  EXPECT_GT(searches, 1);
  EXPECT_THAT(status, testing::StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace ounce::model
