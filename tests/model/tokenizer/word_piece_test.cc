#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/token_model.h"
#include "nlohmann/json.hpp"
#include "tests/model/tokenizer/token_models.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::nlohmann::json;
using ::ounce::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using ModelPtr = std::unique_ptr<const TokenModel>;

json WordPieceJson() {
  return json::parse(R"({
    "type": "WordPiece", "unk_token": "[UNK]",
    "continuing_subword_prefix": "##", "max_input_chars_per_word": 6,
    "vocab": {"[UNK]": 0, "un": 1, "##aff": 2, "##able": 3, "##a": 4,
              "\u00e9": 5, "##\u00e9": 6, "##": 7}})");
}

absl::StatusOr<ModelPtr> Made(const json& model) {
  return MakeTokenModel(model, /*byte_level=*/false);
}

TEST(WordPieceTest, TakesTheLongestTokenAgainAndAgain) {
  ASSERT_OK_AND_ASSIGN(const ModelPtr model, Made(WordPieceJson()));
  EXPECT_THAT(IdsOfWord(*model, "un"), IsOkAndHolds(ElementsAre(1)));
  EXPECT_THAT(IdsOfWord(*model, "unaaff"), IsOkAndHolds(ElementsAre(1, 4, 2)));
  EXPECT_THAT(IdsOfWord(*model, "unable"), IsOkAndHolds(ElementsAre(1, 3)));
  EXPECT_THAT(IdsOfWord(*model, "\u00e9\u00e9"),
              IsOkAndHolds(ElementsAre(5, 6)));
}

TEST(WordPieceTest, MakesAWordThatCannotBeSpelledUnknownAsAWhole) {
  ASSERT_OK_AND_ASSIGN(const ModelPtr model, Made(WordPieceJson()));
  // A token of the rest does not begin a word, nor the other way round.
  for (const char* word : {"x", "a", "unx", "unun", "unab", "\u00e9x"}) {
    EXPECT_THAT(IdsOfWord(*model, word), IsOkAndHolds(ElementsAre(0))) << word;
  }
  // Where a word begins, the prefix is text like any other.
  EXPECT_THAT(IdsOfWord(*model, "##a"), IsOkAndHolds(ElementsAre(4)));
  EXPECT_THAT(IdsOfWord(*model, "##\u00e9a"), IsOkAndHolds(ElementsAre(6, 4)));
}

TEST(WordPieceTest, GivesUpOnWordsOfTooManyCharacters) {
  ASSERT_OK_AND_ASSIGN(const ModelPtr model, Made(WordPieceJson()));
  EXPECT_THAT(IdsOfWord(*model, "unaaaa"),
              IsOkAndHolds(ElementsAre(1, 4, 4, 4, 4)));
  EXPECT_THAT(IdsOfWord(*model, "unaaaaa"), IsOkAndHolds(ElementsAre(0)));
  // Characters, not bytes.
  EXPECT_THAT(IdsOfWord(*model, "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"),
              IsOkAndHolds(ElementsAre(5, 6, 6, 6, 6, 6)));
}

TEST(WordPieceTest, NeedsNoPrefix) {
  json description = WordPieceJson();
  description["continuing_subword_prefix"] = "";
  ASSERT_OK_AND_ASSIGN(const ModelPtr model, Made(description));
  EXPECT_THAT(IdsOfWord(*model, "unun"), IsOkAndHolds(ElementsAre(1, 1)));
  description["continuing_subword_prefix"] = "@@";
  ASSERT_OK_AND_ASSIGN(const ModelPtr other, Made(description));
  EXPECT_THAT(IdsOfWord(*other, "un"), IsOkAndHolds(ElementsAre(1)));
  EXPECT_THAT(IdsOfWord(*other, "unun"), IsOkAndHolds(ElementsAre(0)));
}

TEST(WordPieceTest, SaysThatATextNeedsTheUnknownToken) {
  json description = WordPieceJson();
  description["unk_token"] = "<none>";
  ASSERT_OK_AND_ASSIGN(const ModelPtr model, Made(description));
  EXPECT_THAT(IdsOfWord(*model, "un"), IsOkAndHolds(ElementsAre(1)));
  for (const char* word : {"x", "unaaaaaaaa"}) {
    EXPECT_THAT(
        IdsOfWord(*model, word),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'<none>'")));
  }
}

TEST(WordPieceTest, NeedsEachOfItsFields) {
  for (const char* key : {"unk_token", "continuing_subword_prefix",
                          "max_input_chars_per_word", "vocab"}) {
    json description = WordPieceJson();
    description.erase(key);
    EXPECT_THAT(Made(description),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(key)));
  }
  json more = WordPieceJson();
  more["end_of_word_suffix"] = "</w>";
  EXPECT_THAT(Made(more), StatusIs(absl::StatusCode::kUnimplemented,
                                   HasSubstr("end_of_word_suffix")));
}

}  // namespace
}  // namespace ounce::model
