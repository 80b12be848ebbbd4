#include "model/tokenizer/added_tokens.h"

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

// What each flag does is compared with the reference in byte_level_bpe_test.cc.
class AddedTokenFinderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(words_, WordSplitter::Create());
  }

  std::vector<std::pair<std::string, int>> Cut(std::vector<AddedToken> tokens,
                                               std::string_view text) {
    const AddedTokenFinder finder(std::move(tokens));
    std::vector<TextPiece> pieces;
    finder.Cut(text, *words_, pieces);
    std::vector<std::pair<std::string, int>> found;
    for (const TextPiece& piece : pieces) {
      found.emplace_back(piece.text, piece.added_id);
    }
    return found;
  }

  std::unique_ptr<const WordSplitter> words_;
};

TEST_F(AddedTokenFinderTest, FindsNothingWithoutTokens) {
  EXPECT_THAT(Cut({}, ""), IsEmpty());
  EXPECT_THAT(Cut({}, "abc"), ElementsAre(Pair("abc", -1)));
}

TEST_F(AddedTokenFinderTest, TakesTheLeftmostThenTheLongest) {
  const std::vector<AddedToken> tokens = {{.content = "ab", .id = 1},
                                          {.content = "abcd", .id = 2},
                                          {.content = "bcdef", .id = 3},
                                          {.content = "e", .id = 4}};
  EXPECT_THAT(Cut(tokens, "xabcdefab"),
              ElementsAre(Pair("x", -1), Pair("abcd", 2), Pair("e", 4),
                          Pair("f", -1), Pair("ab", 1)));
  EXPECT_THAT(Cut(tokens, "abc"), ElementsAre(Pair("ab", 1), Pair("c", -1)));
  EXPECT_THAT(Cut(tokens, "bcdef"), ElementsAre(Pair("bcdef", 3)));
}

TEST_F(AddedTokenFinderTest, StripsNoWhiteSpaceThatIsTakenAlready) {
  const std::vector<AddedToken> tokens = {
      {.content = "<m>", .id = 1, .lstrip = true, .rstrip = true}};
  EXPECT_THAT(Cut(tokens, "a <m>  <m> b"),
              ElementsAre(Pair("a", -1), Pair(" <m>  ", 1), Pair("<m> ", 1),
                          Pair("b", -1)));
}

TEST_F(AddedTokenFinderTest, FindsNoTokenOfWhiteSpaceThatIsTakenAlready) {
  const std::vector<AddedToken> tokens = {
      {.content = "<m>", .id = 1, .rstrip = true},
      {.content = "  ", .id = 2, .lstrip = true}};
  EXPECT_THAT(Cut(tokens, "<m>\t  a"),
              ElementsAre(Pair("<m>\t  ", 1), Pair("a", -1)));
  EXPECT_THAT(Cut(tokens, "<m>   a"),
              ElementsAre(Pair("<m>   ", 1), Pair("a", -1)));
  // Without lstrip it counts again.
  EXPECT_THAT(Cut({tokens[0], {.content = "  ", .id = 2}}, "<m>\t  a"),
              ElementsAre(Pair("<m>\t  ", 1), Pair("  ", 2), Pair("a", -1)));
}

// Tokens that strip white space and stand in it: scanning the run once for each
// would be quadratic, minutes for this text instead of milliseconds.
TEST_F(AddedTokenFinderTest, ScansARunOfSpacesOnce) {
  const std::string text(4'000'000, ' ');
  const auto start = std::chrono::steady_clock::now();
  for (const bool left : {true, false}) {
    const AddedTokenFinder finder(
        {{.content = " ", .id = 1, .lstrip = left, .rstrip = !left}});
    std::vector<TextPiece> pieces;
    finder.Cut(text, *words_, pieces);
    EXPECT_EQ(pieces.size(), text.size());
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

}  // namespace
}  // namespace ounce::model
