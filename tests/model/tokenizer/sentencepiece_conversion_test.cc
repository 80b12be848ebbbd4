#include "model/tokenizer/sentencepiece_conversion.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/sentencepiece_model.h"
#include "nlohmann/json.hpp"
#include "tests/model/tokenizer/golden_files.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::nlohmann::json;
using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

using Type = SentencePiece::Type;

absl::StatusOr<SentencePieceModel> ReadGolden(const std::string& name) {
  return ReadSentencePieceModel(
      ReadWholeFile(GoldenPath("families/sentencepiece/" + name + ".model")));
}

// What transformers made of the same file, without what it leaves at its
// default.
json GoldenFamily(const std::string& name) {
  json root = json::parse(
      ReadWholeFile(GoldenPath("families/" + name + "/tokenizer.json")));
  for (const char* key : {"truncation", "padding", "post_processor"}) {
    root.erase(key);
  }
  for (const char* key : {"normalizer", "pre_tokenizer"}) {
    if (root[key].is_null()) root.erase(key);
  }
  json& model = root["model"];
  for (const char* key : {"dropout", "continuing_subword_prefix",
                          "end_of_word_suffix", "ignore_merges"}) {
    model.erase(key);
  }
  return root;
}

struct Case {
  const char* family;
  const char* model;
  SentencePieceClass tokenizer_class;
  json config;
};

TEST(SentencePieceConversionTest, MakesTheTokenizerJsonOfTheReference) {
  const Case cases[] = {
      {"llama2", "llama_bpe", SentencePieceClass::kLlama, json::object()},
      {"llama2_metaspace",
       "llama_bpe",
       SentencePieceClass::kLlama,
       {{"legacy", false}}},
      {"unigram_bytes", "llama_unigram", SentencePieceClass::kLlama,
       json::object()},
      {"gemma", "gemma", SentencePieceClass::kGemma, json::object()}};
  for (const Case& golden : cases) {
    SCOPED_TRACE(golden.family);
    ASSERT_OK_AND_ASSIGN(const SentencePieceModel model,
                         ReadGolden(golden.model));
    ASSERT_OK_AND_ASSIGN(
        const json root,
        ConvertSentencePiece(model, golden.tokenizer_class, golden.config));
    EXPECT_EQ(json::diff(GoldenFamily(golden.family), root), json::array());
  }
}

TEST(SentencePieceConversionTest, PutsNoSpaceBeforeATextIfToldSo) {
  ASSERT_OK_AND_ASSIGN(const SentencePieceModel model, ReadGolden("llama_bpe"));
  const json without = {{"add_prefix_space", false}};
  ASSERT_OK_AND_ASSIGN(
      const json old_form,
      ConvertSentencePiece(model, SentencePieceClass::kLlama, without));
  EXPECT_EQ(old_form["normalizer"]["normalizers"].size(), 1u);
  EXPECT_EQ(old_form["decoder"]["decoders"].size(), 3u);
  const json newer = {{"add_prefix_space", nullptr}, {"legacy", false}};
  ASSERT_OK_AND_ASSIGN(
      const json new_form,
      ConvertSentencePiece(model, SentencePieceClass::kLlama, newer));
  EXPECT_EQ(new_form["pre_tokenizer"]["prepend_scheme"], "never");
}

TEST(SentencePieceConversionTest, GivesAnOldGemmaFileItsTab) {
  ASSERT_OK_AND_ASSIGN(const SentencePieceModel model,
                       ReadGolden("gemma_tabless"));
  ASSERT_OK_AND_ASSIGN(
      const json root,
      ConvertSentencePiece(model, SentencePieceClass::kGemma, json::object()));
  const json& vocab = root["model"]["vocab"];
  EXPECT_TRUE(vocab.contains("\t"));
  EXPECT_FALSE(vocab.contains("<0x09>"));
}

TEST(SentencePieceConversionTest, NamesTheFirstTokensAsTheConfigDoes) {
  ASSERT_OK_AND_ASSIGN(const SentencePieceModel gemma, ReadGolden("gemma"));
  ASSERT_OK_AND_ASSIGN(
      const json root,
      ConvertSentencePiece(
          gemma, SentencePieceClass::kGemma,
          {{"pad_token", "<none>"}, {"bos_token", {{"content", "<go>"}}}}));
  EXPECT_EQ(root["model"]["vocab"]["<none>"], 0);
  EXPECT_EQ(root["model"]["vocab"]["<eos>"], 1);
  EXPECT_EQ(root["model"]["vocab"]["<go>"], 2);
  ASSERT_OK_AND_ASSIGN(const SentencePieceModel llama, ReadGolden("llama_bpe"));
  ASSERT_OK_AND_ASSIGN(
      const json other,
      ConvertSentencePiece(
          llama, SentencePieceClass::kLlama,
          {{"added_tokens_decoder", {{"1", {{"content", "<go>"}}}}}}));
  EXPECT_EQ(other["model"]["vocab"]["<unk>"], 0);
  EXPECT_EQ(other["model"]["vocab"]["<go>"], 1);
}

TEST(SentencePieceConversionTest, KnowsTheClassByItsNameOrTheModelType) {
  const auto class_of = [](const json& config, const char* model_type) {
    return ClassOfSentencePiece(config, model_type);
  };
  for (const char* name : {"LlamaTokenizer", "LlamaTokenizerFast"}) {
    ASSERT_OK_AND_ASSIGN(const auto found,
                         class_of({{"tokenizer_class", name}}, "gemma"));
    EXPECT_EQ(found, SentencePieceClass::kLlama);
  }
  ASSERT_OK_AND_ASSIGN(const auto gemma, class_of(json::object(), "gemma2"));
  EXPECT_EQ(gemma, SentencePieceClass::kGemma);
  ASSERT_OK_AND_ASSIGN(const auto other, class_of(json::object(), "mistral"));
  EXPECT_EQ(other, SentencePieceClass::kLlama);
  EXPECT_THAT(
      class_of({{"tokenizer_class", "T5Tokenizer"}}, "t5"),
      StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("'T5Tokenizer'")));
}

SentencePieceModel SmallModel(std::vector<std::string> texts) {
  SentencePieceModel model;
  model.algorithm = SentencePieceModel::Algorithm::kBpe;
  model.pieces = {{"<unk>", 0, Type::kUnknown},
                  {"<s>", 0, Type::kControl},
                  {"</s>", 0, Type::kControl}};
  for (std::string& text : texts) {
    model.pieces.push_back(
        {std::move(text), -static_cast<float>(model.pieces.size())});
  }
  return model;
}

TEST(SentencePieceConversionTest, MergesByScoreAndThenByTheLongerFirstPart) {
  ASSERT_OK_AND_ASSIGN(
      const json root,
      ConvertSentencePiece(SmallModel({"aaa", "aa", "a", "\u00e9", "\u00e9a"}),
                           SentencePieceClass::kLlama, json::object()));
  EXPECT_EQ(root["model"]["merges"],
            json::parse(
                R"([["aa", "a"], ["a", "aa"], ["a", "a"], ["\u00e9", "a"]])"));
}

TEST(SentencePieceConversionTest, RefusesWhatItCannotConvert) {
  const auto refused = [](const SentencePieceModel& model, const json& config,
                          absl::StatusCode code, const char* why) {
    EXPECT_THAT(ConvertSentencePiece(model, SentencePieceClass::kLlama, config),
                StatusIs(code, HasSubstr(why)));
  };
  SentencePieceModel words = SmallModel({"a"});
  words.algorithm = SentencePieceModel::Algorithm::kWord;
  refused(words, json::object(), absl::StatusCode::kUnimplemented, "words");
  refused(SmallModel({std::string(513, 'a')}), json::object(),
          absl::StatusCode::kInvalidArgument, "at most 512 bytes, has 513");
  refused(SmallModel({"a"}), {{"legacy", 1}},
          absl::StatusCode::kInvalidArgument, "legacy");
  // Runs of many letters, each of which is made of others in many ways.
  std::vector<std::string> runs;
  for (int letter = 0; letter < 20; ++letter) {
    std::string run;
    for (int i = 0; i < 500; ++i) {
      runs.push_back(run += static_cast<char>('a' + letter));
    }
  }
  refused(SmallModel(std::move(runs)), json::object(),
          absl::StatusCode::kInvalidArgument, "at most 2097152");
}

}  // namespace
}  // namespace ounce::model
