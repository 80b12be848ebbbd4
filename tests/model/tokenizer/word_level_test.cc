#include <memory>

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

json WordLevelJson(const char* unknown) {
  json model =
      json::parse(R"({"type": "WordLevel", "vocab": {"[UNK]": 0, "word": 3}})");
  model["unk_token"] = unknown;
  return model;
}

TEST(WordLevelTest, KnowsWholeWordsOnly) {
  ASSERT_OK_AND_ASSIGN(const ModelPtr model,
                       MakeTokenModel(WordLevelJson("[UNK]"), false));
  EXPECT_THAT(IdsOfWord(*model, "word"), IsOkAndHolds(ElementsAre(3)));
  EXPECT_THAT(IdsOfWord(*model, "words"), IsOkAndHolds(ElementsAre(0)));
}

TEST(WordLevelTest, SaysThatATextNeedsTheUnknownToken) {
  ASSERT_OK_AND_ASSIGN(const ModelPtr model,
                       MakeTokenModel(WordLevelJson("<none>"), false));
  EXPECT_THAT(IdsOfWord(*model, "word"), IsOkAndHolds(ElementsAre(3)));
  EXPECT_THAT(
      IdsOfWord(*model, "words"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'words'")));
}

}  // namespace
}  // namespace ounce::model
