#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/tokenizer_json.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

VocabularyFiles Files() {
  VocabularyFiles files;
  files.vocab_json = R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3})";
  files.merges_txt = "#version: 0.2\na b\n";
  return files;
}

TEST(VocabularyFilesTest, NeedsOnlyVocabularyAndMerges) {
  VocabularyFiles files = Files();
  for (const char* merges :
       {"#version: 0.2\na b\n", "#version: 0.2\r\na b\r\n", "\n\na b\n\n"}) {
    files.merges_txt = merges;
    ASSERT_OK_AND_ASSIGN(const auto bpe, ParseVocabularyFiles(files));
    // The end of text is special without a word in any file.
    ASSERT_OK_AND_ASSIGN(const auto ids, bpe->Encode("aab<|endoftext|>"));
    EXPECT_THAT(ids, ElementsAre(0, 2, 3));
    EXPECT_EQ(bpe->Decode(ids), "aab");
  }
}

TEST(VocabularyFilesTest, ReadsAddedTokensInTheirThreeForms) {
  VocabularyFiles files = Files();
  files.companions.added_tokens_json =
      R"({"\t\t": 4, "<pad>": 5, "<|endoftext|>": 3})";
  files.companions.special_tokens_map_json = R"({"pad_token": "<pad>"})";
  ASSERT_OK_AND_ASSIGN(const auto plain, ParseVocabularyFiles(files));
  EXPECT_THAT(*plain->Encode("a\t\t<pad>b"), ElementsAre(0, 4, 5, 1));
  EXPECT_EQ(plain->Decode({0, 4, 5, 3, 1}), "a\t\tb");

  // The decoder in the config replaces both, and its flags count.
  files.companions.tokenizer_config_json = R"({"added_tokens_decoder": {
      "4": {"content": "<m>", "lstrip": true, "special": false}}})";
  ASSERT_OK_AND_ASSIGN(const auto flagged, ParseVocabularyFiles(files));
  EXPECT_THAT(*flagged->Encode("a \t<m>b"), ElementsAre(0, 4, 1));
  EXPECT_EQ(flagged->size(), 5);

  // A token named for a role only, in either form, gets the next id.
  for (const char* role :
       {R"({"pad_token": "<pad>"})", R"({"pad_token": {"content": "<pad>"}})",
        R"({"additional_special_tokens": ["<pad>"]})"}) {
    files = Files();
    files.companions.tokenizer_config_json = role;
    ASSERT_OK_AND_ASSIGN(const auto named, ParseVocabularyFiles(files));
    EXPECT_THAT(*named->Encode("b<pad>"), ElementsAre(1, 4));
    EXPECT_EQ(named->Decode({1, 4}), "b");
  }
}

TEST(VocabularyFilesTest, NamesTheFileThatIsMalformed) {
  const auto refused = [](auto change, const char* found) {
    VocabularyFiles files = Files();
    change(files);
    EXPECT_THAT(ParseVocabularyFiles(files),
                StatusIs(kInvalid, HasSubstr(found)));
  };
  for (const char* vocab : {"", "[]", R"({"a": -1})", R"({"a": "0"})",
                            R"({"a": 4194304})", R"({"a": 0, "a": 1})"}) {
    refused([&](VocabularyFiles& f) { f.vocab_json = vocab; }, "vocab.json: ");
  }
  for (const char* merges : {"\na\n", "\na b c\n"}) {
    refused([&](VocabularyFiles& f) { f.merges_txt = merges; },
            "merges.txt: line 2, ");
  }
  refused([](VocabularyFiles& f) { f.merges_txt = "\na x\n"; },
          "'x' is not in the vocabulary");
  refused(
      [](VocabularyFiles& f) { f.merges_txt = std::string(25'000'001, 'a'); },
      "merges.txt must have at most 25000000 bytes, has 25000001");
  for (const char* added : {"{", R"({"x": -1})", R"({"x": null})"}) {
    refused([&](VocabularyFiles& f) { f.companions.added_tokens_json = added; },
            "added_tokens.json: ");
  }
  for (const char* config :
       {"[]", R"({"bos_token": 7})", R"({"bos_token": {}})",
        R"({"add_prefix_space": 1})", R"({"add_bos_token": "x"})",
        R"({"added_tokens_decoder": []})",
        R"({"added_tokens_decoder": {"x": {"content": "y"}}})",
        R"({"added_tokens_decoder": {"-4": {"content": "y"}}})",
        R"({"added_tokens_decoder": {"99999999999": {"content": "y"}}})",
        R"({"added_tokens_decoder": {"4": {"content": 4}}})",
        R"({"added_tokens_decoder": {"4": {"content": "y", "lstrip": 1}}})",
        R"({"additional_special_tokens": [1]})"}) {
    refused(
        [&](VocabularyFiles& f) {
          f.companions.tokenizer_config_json = config;
        },
        "tokenizer_config.json: ");
  }
  refused(
      [](VocabularyFiles& f) { f.companions.special_tokens_map_json = "7"; },
      "special_tokens_map.json: ");
  // What it says of a role takes the place of what the config says.
  refused(
      [](VocabularyFiles& f) {
        f.companions.tokenizer_config_json = R"({"bos_token": "x"})";
        f.companions.special_tokens_map_json = R"({"bos_token": 7})";
      },
      "special_tokens_map.json: 'bos_token': ");
}

TEST(VocabularyFilesTest, RefusesToForgetABeginningToken) {
  VocabularyFiles files = Files();
  files.companions.tokenizer_config_json = R"({"add_bos_token": true})";
  EXPECT_THAT(
      ParseVocabularyFiles(files),
      StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("add_bos_token")));
}

}  // namespace
}  // namespace ounce::model
