// Byte-level BPE as a whole, by its parts and by variants of tokenizer.json.

#include "tests/model/tokenizer/byte_level_bpe.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/tokenizer_json.h"
#include "nlohmann/json.hpp"
#include "tests/model/tokenizer/golden_files.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Letters, a space, and one merge.
ByteLevelParts FewParts() {
  ByteLevelParts parts;
  parts.vocabulary = {{"a", 0}, {"b", 1}, {"\u0120", 2}, {"ab", 3}};
  parts.merges = {{"a", "b"}};
  return parts;
}

// Tokenizers that are odd in one way each, with ids by the reference.
TEST(ByteLevelBpeTest, GivesTheIdsOfTheReferenceForEveryVariant) {
  int num_variants = 0;
  for (const std::string& line : GoldenLines("variants.jsonl")) {
    const auto variant = nlohmann::json::parse(line);
    const std::string name = variant["name"].get<std::string>();
    SCOPED_TRACE(name);
    ASSERT_OK_AND_ASSIGN(const auto bpe,
                         ParseTokenizerJson(name, variant["tokenizer"].dump()));
    for (const auto& text_and_ids : variant["cases"]) {
      const auto text = text_and_ids[0].get<std::string>();
      EXPECT_EQ(*bpe->Encode(text), text_and_ids[1].get<std::vector<int>>())
          << text_and_ids[0].dump();
    }
    ++num_variants;
  }
  EXPECT_GT(num_variants, 50);
}

TEST(ByteLevelBpeTest, NamesTheByteThatIsNotUtf8) {
  ASSERT_OK_AND_ASSIGN(const auto bpe, MakeByteLevelBpe(FewParts()));
  EXPECT_THAT(bpe->Encode("abc\xff"),
              StatusIs(kInvalid, "text: not UTF-8 at byte 3"));
  EXPECT_THAT(bpe->Encode("\xed\xa0\x80"),
              StatusIs(kInvalid, HasSubstr("byte 0")));
  EXPECT_THAT(bpe->Encode("ab\xe2\x82"),
              StatusIs(kInvalid, HasSubstr("byte 2")));
}

TEST(ByteLevelBpeTest, DecodesIdsWithoutATokenToNothing) {
  ByteLevelParts parts = FewParts();
  parts.vocabulary.push_back({"c", 7});  // 4, 5 and 6 are nobody's
  ASSERT_OK_AND_ASSIGN(const auto bpe, MakeByteLevelBpe(std::move(parts)));
  EXPECT_EQ(bpe->size(), 8);
  EXPECT_EQ(bpe->Decode({3, 2, 7}, true), "ab c");
  EXPECT_EQ(
      bpe->Decode({-1, 4, 5, 6, 8, 51199, 1 << 30, INT32_MIN, INT32_MAX}, true),
      "");
  EXPECT_EQ(bpe->Decode({}, true), "");
}

TEST(ByteLevelBpeTest, LeavesOnlySpecialTokensOutOfADecoding) {
  ByteLevelParts parts = FewParts();
  parts.added_tokens = {{.content = "<end>", .special = true},
                        {.content = "\u00e9 ", .special = false}};
  ASSERT_OK_AND_ASSIGN(const auto bpe, MakeByteLevelBpe(std::move(parts)));
  const std::string text = "ab<end>\u00e9 b";
  ASSERT_OK_AND_ASSIGN(const auto ids, bpe->Encode(text));
  EXPECT_THAT(ids, ElementsAre(3, 4, 5, 1));
  EXPECT_EQ(bpe->Decode(ids, false), text);
  EXPECT_EQ(bpe->Decode(ids, true), "ab\u00e9 b");
}

TEST(ByteLevelBpeTest, KnowsSpecialTokensByTheirWholeText) {
  ByteLevelParts parts = FewParts();
  parts.added_tokens = {{.content = "<end>", .special = true},
                        {.content = "<plain>", .special = false},
                        {.content = "b", .special = true}};
  ASSERT_OK_AND_ASSIGN(const auto bpe, MakeByteLevelBpe(std::move(parts)));
  EXPECT_EQ(bpe->SpecialTokenId("<end>"), 4);
  EXPECT_EQ(bpe->SpecialTokenId("b"), 1);
  for (const char* other : {"", "<end", "<end> ", "<plain>", "a", "ab"}) {
    EXPECT_EQ(bpe->SpecialTokenId(other), std::nullopt) << other;
  }
}

// Test data of section 3: huggingface/transformers,
// tests/models/codegen/test_tokenization_codegen.py.
TEST(ByteLevelBpeTest, EncodesThePublishedTinyExample) {
  VocabularyFiles files;
  files.vocab_json = "{";
  int id = 0;
  for (const char* token : {"l",
                            "o",
                            "w",
                            "e",
                            "r",
                            "s",
                            "t",
                            "i",
                            "d",
                            "n",
                            "\u0120",
                            "\u0120l",
                            "\u0120n",
                            "\u0120lo",
                            "\u0120low",
                            "er",
                            "\u0120lowest",
                            "\u0120newer",
                            "\u0120wider",
                            "<unk>",
                            "<|endoftext|>"}) {
    files.vocab_json += std::string(id == 0 ? "" : ",") + "\"" + token +
                        "\":" + std::to_string(id);
    ++id;
  }
  files.vocab_json += "}";
  files.merges_txt = "#version: 0.2\n\u0120 l\n\u0120l o\n\u0120lo w\ne r\n";
  files.companions.tokenizer_config_json =
      R"({"unk_token": "<unk>", "add_prefix_space": true})";
  ASSERT_OK_AND_ASSIGN(const auto bpe, ParseVocabularyFiles(files));
  ASSERT_OK_AND_ASSIGN(const auto ids, bpe->Encode("lower newer<unk>"));
  EXPECT_THAT(ids, ElementsAre(14, 15, 10, 9, 3, 2, 15, 19));
  EXPECT_EQ(bpe->Decode(ids, false), " lower newer<unk>");
  EXPECT_EQ(bpe->Decode(ids, true), " lower newer");
  EXPECT_THAT(*bpe->Encode("<|endoftext|>"), ElementsAre(20));
}

TEST(ByteLevelBpeTest, RefusesIdsOutsideTheLimits) {
  for (const int32_t id : {-1, INT32_MIN, kMaxVocabularySize, INT32_MAX}) {
    ByteLevelParts parts = FewParts();
    parts.vocabulary[1].second = id;
    EXPECT_THAT(
        MakeByteLevelBpe(std::move(parts)),
        StatusIs(kInvalid, HasSubstr("the id of token 'b' must be from 0 to")));
  }
}

TEST(ByteLevelBpeTest, RefusesTokensAndIdsThatComeTwice) {
  ByteLevelParts parts = FewParts();
  parts.vocabulary.push_back({"b", 9});
  EXPECT_THAT(MakeByteLevelBpe(std::move(parts)),
              StatusIs(kInvalid, HasSubstr("'b' comes twice")));
  parts = FewParts();
  parts.vocabulary.push_back({"c", 1});
  EXPECT_THAT(MakeByteLevelBpe(std::move(parts)),
              StatusIs(kInvalid, HasSubstr("'b' and 'c' have the same id 1")));
  parts = FewParts();
  parts.vocabulary[3].second = 4;  // the next free id, by the reference's count
  parts.added_tokens = {{.content = "<x>"}};
  EXPECT_THAT(MakeByteLevelBpe(std::move(parts)),
              StatusIs(kInvalid, HasSubstr("have the same id 4")));
}

TEST(ByteLevelBpeTest, GivesAddedTokensTheIdsOfTheReferenceWhateverTheySay) {
  ByteLevelParts parts = FewParts();
  parts.added_tokens = {{.content = "<x>", .id = 9},
                        {.content = "ab", .id = 4},
                        {.content = "<y>", .id = 0}};
  ASSERT_OK_AND_ASSIGN(const auto bpe, MakeByteLevelBpe(std::move(parts)));
  EXPECT_THAT(*bpe->Encode("<y><x>ab"), ElementsAre(5, 4, 3));
}

TEST(ByteLevelBpeTest, TakesTheLastFlagsOfAnAddedTokenThatComesTwice) {
  ByteLevelParts parts = FewParts();
  parts.added_tokens = {{.content = "<x>"},
                        {.content = "<y>"},
                        {.content = "<x>", .special = true, .rstrip = true}};
  ASSERT_OK_AND_ASSIGN(const auto bpe, MakeByteLevelBpe(std::move(parts)));
  ASSERT_OK_AND_ASSIGN(const auto ids, bpe->Encode("<x> <y>"));
  EXPECT_THAT(ids, ElementsAre(4, 5));
  EXPECT_EQ(bpe->Decode(ids), "<y>");
}

TEST(ByteLevelBpeTest, RefusesAddedTokensThatAreTooLong) {
  ByteLevelParts parts = FewParts();
  parts.added_tokens = {{.content = std::string(kMaxAddedTokenBytes, 'x')}};
  EXPECT_OK(MakeByteLevelBpe(parts));
  parts.added_tokens[0].content += "x";
  EXPECT_THAT(
      MakeByteLevelBpe(std::move(parts)),
      StatusIs(kInvalid, HasSubstr("must have at most 256 bytes, has 257")));
}

TEST(ByteLevelBpeTest, DecodesTokensThatAreNotBytesAsTheyAreWritten) {
  ByteLevelParts parts = FewParts();
  parts.vocabulary.push_back({"\u4e2d", 4});
  parts.added_tokens = {{.content = "\u4e2d"}, {.content = "x y"}};
  ASSERT_OK_AND_ASSIGN(const auto bpe, MakeByteLevelBpe(parts));
  EXPECT_EQ(bpe->Decode({4, 5}, true), "\u4e2dx y");
  parts.added_tokens.clear();
  ASSERT_OK_AND_ASSIGN(const auto without, MakeByteLevelBpe(std::move(parts)));
  EXPECT_EQ(without->Decode({4}, true), "\u4e2d");
}

TEST(ByteLevelBpeTest, RefusesMergesOfUnknownTokens) {
  for (const auto& [left, right] : {std::pair("a", "x"), std::pair("x", "b"),
                                    std::pair("b", "a"), std::pair("", "")}) {
    ByteLevelParts parts = FewParts();
    parts.merges.push_back({left, right});
    EXPECT_THAT(MakeByteLevelBpe(std::move(parts)),
                StatusIs(kInvalid, HasSubstr("is not in the vocabulary")));
  }
}

TEST(ByteLevelBpeTest, RefusesAnUnknownTokenThatIsNoToken) {
  ByteLevelParts parts = FewParts();
  parts.unknown_token = "<unk>";
  EXPECT_THAT(MakeByteLevelBpe(std::move(parts)),
              StatusIs(kInvalid, HasSubstr("unk_token '<unk>'")));
}

TEST(ByteLevelBpeTest, RefusesTemplateIdsOutsideTheVocabulary) {
  ByteLevelParts parts = FewParts();
  parts.ids_after = {4};
  EXPECT_THAT(
      MakeByteLevelBpe(std::move(parts)),
      StatusIs(kInvalid,
               HasSubstr("post_processor: ids must be from 0 to 3, one is 4")));
}

TEST(ByteLevelBpeTest, TakesAnEmptyVocabulary) {
  ASSERT_OK_AND_ASSIGN(const auto bpe, MakeByteLevelBpe({}));
  EXPECT_EQ(bpe->size(), 0);
  EXPECT_THAT(*bpe->Encode("abc"), IsEmpty());
  EXPECT_EQ(bpe->Decode({0}, false), "");
}

// A long word is merged in another way than its parts: a 'z' joins nothing.
TEST(ByteLevelBpeTest, MergesALongWordAsThePartsThatNeverJoin) {
  std::mt19937 random(5);
  ByteLevelParts parts;
  std::vector<std::string> tokens = {"a", "b", "c", "d"};
  for (int i = 0; i < 300; ++i) {
    const std::string left = tokens[random() % tokens.size()];
    const std::string right = tokens[random() % tokens.size()];
    const std::string both = left + right;
    if (both.size() > 9) continue;
    if (std::find(tokens.begin(), tokens.end(), both) == tokens.end()) {
      tokens.push_back(both);
    }
    parts.merges.emplace_back(left, right);
  }
  tokens.push_back("z");
  for (const std::string& token : tokens) {
    parts.vocabulary.emplace_back(token, parts.vocabulary.size());
  }
  // In no order that any training makes.
  std::shuffle(parts.merges.begin(), parts.merges.end(), random);
  ASSERT_OK_AND_ASSIGN(const auto bpe, MakeByteLevelBpe(parts));
  std::string word;
  std::vector<int32_t> ids;
  for (int i = 0; i < 2'000; ++i) {
    std::string part;
    for (size_t length = random() % 60; length > 0; --length) {
      part += "abcd"[random() % 4];
    }
    part += 'z';
    word += part;
    ASSERT_OK_AND_ASSIGN(const auto part_ids, bpe->Encode(part));
    ids.insert(ids.end(), part_ids.begin(), part_ids.end());
  }
  ASSERT_OK_AND_ASSIGN(const auto word_ids, bpe->Encode(word));
  EXPECT_EQ(word_ids, ids);
}

// A text without spaces is one word. With merges found by scanning the word
// again after each, these would take hours; the bound is for slow machines and
// sanitizers.
TEST(ByteLevelBpeTest, MergesLongWordsInLittleTime) {
  ASSERT_OK_AND_ASSIGN(
      const auto bpe,
      ParseTokenizerJson("small",
                         ReadWholeFile(GoldenPath("small/tokenizer.json"))));
  constexpr size_t kSize = 2'000'000;
  std::mt19937 random(7);
  std::vector<std::string> texts = {std::string(kSize, 'a'),
                                    std::string(kSize, ' '),
                                    std::string(kSize, '\n')};
  for (const std::string letters : {"abcdefghijklmnopqrstuvwxyz", "eto"}) {
    std::string& text = texts.emplace_back(kSize, ' ');
    for (char& c : text) c = letters[random() % letters.size()];
  }
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& text : texts) {
    ASSERT_OK_AND_ASSIGN(const auto ids, bpe->Encode(text));
    ASSERT_TRUE(bpe->Decode(ids, false) == text);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start,
            std::chrono::seconds(200));
}

}  // namespace
}  // namespace ounce::model
