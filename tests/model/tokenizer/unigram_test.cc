#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

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

using Scores = std::vector<std::pair<std::string, double>>;

json UnigramJson(const Scores& scores) {
  json vocab = json::array();
  for (const auto& [token, score] : scores) {
    vocab.push_back(json::array({token, score}));
  }
  return {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", std::move(vocab)}};
}

absl::StatusOr<ModelPtr> Made(const json& model) {
  return MakeTokenModel(model, /*byte_level=*/false);
}

TEST(UnigramTest, TakesTheCutOfTheGreatestSum) {
  ASSERT_OK_AND_ASSIGN(const ModelPtr model,
                       Made(UnigramJson({{"<unk>", 0},
                                         {"a", -3.0},
                                         {"b", -3.0},
                                         {"ab", -5.0},
                                         {"ba", -1.0},
                                         {"aba", -4.5}})));
  EXPECT_THAT(IdsOfWord(*model, "ab"), IsOkAndHolds(ElementsAre(3)));
  EXPECT_THAT(IdsOfWord(*model, "aba"), IsOkAndHolds(ElementsAre(1, 4)));
  EXPECT_THAT(IdsOfWord(*model, "abab"), IsOkAndHolds(ElementsAre(1, 4, 2)));
}

// The way that was found first stays: the one whose last token is longest.
TEST(UnigramTest, TakesOfEqualSumsTheOneWhoseLastTokenIsLongest) {
  ASSERT_OK_AND_ASSIGN(
      const ModelPtr model,
      Made(UnigramJson(
          {{"<unk>", 0}, {"a", -1}, {"aa", -1}, {"b", -1}, {"ab", -1}})));
  EXPECT_THAT(IdsOfWord(*model, "aaa"), IsOkAndHolds(ElementsAre(1, 2)));
  EXPECT_THAT(IdsOfWord(*model, "aab"), IsOkAndHolds(ElementsAre(1, 4)));
}

TEST(UnigramTest, MakesOneUnknownTokenOfARunOfUnknownCharacters) {
  ASSERT_OK_AND_ASSIGN(
      const ModelPtr model,
      Made(UnigramJson({{"<unk>", 0}, {"a", -1}, {"\u00e9!", -1}})));
  EXPECT_THAT(IdsOfWord(*model, "xya\u4e2d\u6587a"),
              IsOkAndHolds(ElementsAre(0, 1, 0, 1)));
  // A character that only begins a token is unknown too.
  EXPECT_THAT(IdsOfWord(*model, "\u00e9\u00e9!"),
              IsOkAndHolds(ElementsAre(0, 2)));
  // The unknown token's own text joins the run.
  EXPECT_THAT(IdsOfWord(*model, "<unk>"), IsOkAndHolds(ElementsAre(0)));
  EXPECT_THAT(IdsOfWord(*model, "x<unk>x"), IsOkAndHolds(ElementsAre(0)));
}

TEST(UnigramTest, FindsAWordAmongUnknownCharactersThatIsAToken) {
  // Two unknown characters score better than the token that they spell.
  ASSERT_OK_AND_ASSIGN(
      const ModelPtr model,
      Made(UnigramJson({{"<unk>", 90.0}, {"a", 31.0}, {"xy", 30.0}})));
  EXPECT_THAT(IdsOfWord(*model, "xy"), IsOkAndHolds(ElementsAre(2)));
  EXPECT_THAT(IdsOfWord(*model, "xyx"), IsOkAndHolds(ElementsAre(0)));
}

TEST(UnigramTest, FallsBackToBytesOnlyIfEachHasAToken) {
  json description =
      UnigramJson({{"<unk>", 0}, {"a", -1}, {"<0xC3>", -9}, {"<0xA9>", -9}});
  description["byte_fallback"] = true;
  ASSERT_OK_AND_ASSIGN(const ModelPtr model, Made(description));
  EXPECT_THAT(IdsOfWord(*model, "a\u00e9\u00e9a"),
              IsOkAndHolds(ElementsAre(1, 2, 3, 2, 3, 1)));
  // One that has none makes the whole run unknown.
  EXPECT_THAT(IdsOfWord(*model, "a\u00e9\u00e8a"),
              IsOkAndHolds(ElementsAre(1, 0, 1)));
}

TEST(UnigramTest, SaysThatATextNeedsAnUnknownToken) {
  json description = UnigramJson({{"a", -1}, {"b", -1}});
  description["unk_id"] = nullptr;
  ASSERT_OK_AND_ASSIGN(const ModelPtr model, Made(description));
  EXPECT_THAT(IdsOfWord(*model, "ab"), IsOkAndHolds(ElementsAre(0, 1)));
  EXPECT_THAT(IdsOfWord(*model, "abc"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("no unknown token")));
}

// The best sum by trying every cut.
double BestSum(const Scores& tokens, const std::string& word) {
  if (word.empty()) return 0;
  double best = -std::numeric_limits<double>::infinity();
  for (const auto& [token, score] : tokens) {
    if (word.starts_with(token)) {
      best = std::max(best, score + BestSum(tokens, word.substr(token.size())));
    }
  }
  return best;
}

TEST(UnigramTest, FindsTheBestOfAllCuts) {
  std::mt19937 random(11);
  for (int round = 0; round < 100; ++round) {
    Scores tokens;
    const auto add = [&](const std::string& token) {
      for (const auto& known : tokens) {
        if (known.first == token) return;
      }
      const double score = -1.0 - static_cast<double>(random() % 1000) / 97;
      tokens.emplace_back(token, score);
    };
    for (const char* letter : {"a", "b", "\u00e9"}) add(letter);
    for (int i = 0; i < 12; ++i) {
      std::string token;
      for (uint32_t n = random() % 4 + 1; n > 0; --n) {
        token += tokens[random() % 3].first;
      }
      add(token);
    }
    json description = UnigramJson(tokens);
    description["unk_id"] = nullptr;
    ASSERT_OK_AND_ASSIGN(const ModelPtr model, Made(description));
    for (int i = 0; i < 20; ++i) {
      std::string word;
      for (uint32_t n = random() % 9 + 1; n > 0; --n) {
        word += tokens[random() % 3].first;
      }
      ASSERT_OK_AND_ASSIGN(const auto ids, IdsOfWord(*model, word));
      std::string joined;
      double sum = 0;
      for (const int32_t id : ids) {
        joined += tokens[id].first;
        sum += tokens[id].second;
      }
      EXPECT_EQ(joined, word);
      EXPECT_NEAR(sum, BestSum(tokens, word), 1e-9);
    }
  }
}

TEST(UnigramTest, RefusesWhatIsMalformed) {
  const auto refused = [](const json& model, const char* why) {
    EXPECT_THAT(Made(model),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  refused({{"type", "Unigram"}}, "vocab must be an array");
  for (const char* entry : {"[\"b\"]", "[\"b\", \"-1\"]", "[1, 1]", "1"}) {
    json model = UnigramJson({{"a", -1}});
    model["vocab"].push_back(json::parse(entry));
    refused(model, "entry 1");
  }
  refused(UnigramJson({{"a", -1}, {"a", -2}}), "comes twice");
  refused(UnigramJson({{std::string(1025, 'a'), -1}, {"b", 0}}),
          "at most 1024");
  json beyond = UnigramJson({{"a", -1}, {"b", 0}});
  beyond["unk_id"] = 2;
  refused(beyond, "unk_id");
  json more = UnigramJson({{"a", -1}, {"b", 0}});
  more["alpha"] = 0.1;
  EXPECT_THAT(Made(more),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("alpha")));
}

}  // namespace
}  // namespace ounce::model
