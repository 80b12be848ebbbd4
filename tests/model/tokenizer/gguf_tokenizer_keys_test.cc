// Tokenizers of model folders as GGUF's metadata: what is read back of it gives
// the same ids, whatever the text.

#include "model/tokenizer/gguf_tokenizer_keys.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/gguf_tokenizer.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/tokenizer_json.h"
#include "nlohmann/json.hpp"
#include "tests/model/tokenizer/golden_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr char kFamilies[] = "tests/golden/tokenizer/families/";

struct Held {
  std::string family;
  std::string model;  // tokenizer.ggml.model
  std::string pre;
  bool gemma = false;
};

void PrintTo(const Held& held, std::ostream* out) { *out << held.family; }

std::string ArchitectureOf(const Held& held) {
  return held.gemma ? "gemma" : "llama";
}

class HeldTest : public ::testing::TestWithParam<Held> {};

TEST_P(HeldTest, ItsIdsComeOutOfTheMetadata) {
  const Held& held = GetParam();
  const std::string folder = kFamilies + held.family;
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Tokenizer::Load(folder));
  const int64_t rows = tokenizer->size() + 5;
  ASSERT_OK_AND_ASSIGN(json keys, GgufTokenizerKeys(folder, rows, held.gemma));
  EXPECT_EQ(keys["tokenizer.ggml.model"], held.model);
  EXPECT_EQ(keys["tokenizer.ggml.pre"], held.pre);
  EXPECT_EQ(keys["tokenizer.ggml.tokens"].size(), rows);
  EXPECT_EQ(keys["tokenizer.ggml.token_type"].size(), rows);
  keys["general.architecture"] = ArchitectureOf(held);
  ASSERT_OK_AND_ASSIGN(json root, GgufTokenizerJson(keys));
  ASSERT_OK_AND_ASSIGN(const auto again,
                       TokenizerFromJson(std::move(root), nullptr, {}));
  for (const std::string& line : GoldenLines("families/strings.jsonl")) {
    const auto text = json::parse(line).get<std::string>();
    ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> wanted,
                         tokenizer->Encode(text));
    ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> found, again->Encode(text));
    ASSERT_EQ(found, wanted) << text;
    ASSERT_EQ(again->Decode(wanted), tokenizer->Decode(wanted)) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(All, HeldTest,
                         ::testing::Values(Held{"gpt2", "gpt2", "gpt-2"},
                                           Held{"gpt_neox", "gpt2", "olmo"},
                                           Held{"starcoder", "gpt2", "smollm"},
                                           Held{"qwen2", "gpt2", "qwen2"},
                                           Held{"llama3", "gpt2", "llama-bpe"},
                                           Held{"llama2", "llama", "default"},
                                           Held{"gemma", "llama", "default",
                                                true}),
                         [](const auto& info) { return info.param.family; });

TEST(GgufTokenizerKeysTest, WhatGgufCannotSayIsRefused) {
  const struct {
    std::string family;
    std::string message;
  } refused[] = {
      {"bert", "its tokenizer: its model is 'WordPiece', not BPE"},
      {"unigram_bytes", "its tokenizer: its model is 'Unigram', not BPE"},
      {"bloom", "it cuts texts in none of the ways that have a name"},
      {"falcon", "it cuts texts in none of the ways that have a name"},
      {"roberta", "its tokenizer: "},
  };
  for (const auto& [family, message] : refused) {
    EXPECT_THAT(
        GgufTokenizerKeys(kFamilies + family, 1 << 20, false).status(),
        StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(message)))
        << family;
  }
}

TEST(GgufTokenizerKeysTest, AFolderWithoutATokenizerHasNoVocabulary) {
  const TempFolder folder;
  EXPECT_EQ(*GgufTokenizerKeys(folder.path().string(), 8, false),
            json({{"tokenizer.ggml.model", "no_vocab"}}));
}

// The folder of a family, with what lies beside it.
std::string With(const TempFolder& folder, const std::string& family,
                 const std::string& file, const json& content) {
  const fs::path copy = folder.Path(family);
  fs::copy(kFamilies + family, copy);
  std::ofstream(copy / file)
      << (content.is_string() ? content.get<std::string>() : content.dump());
  return copy.string();
}

TEST(GgufTokenizerKeysTest, TokensOfCompanionFilesAreKept) {
  const TempFolder folder;
  const std::string source = With(folder, "gpt2", "tokenizer_config.json",
                                  {{"tokenizer_class", "GPT2Tokenizer"},
                                   {"pad_token", "<|pad|>"},
                                   {"chat_template", "{{ messages }}"}});
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Tokenizer::Load(source));
  const std::optional<int32_t> pad = tokenizer->SpecialTokenId("<|pad|>");
  ASSERT_TRUE(pad.has_value());
  ASSERT_OK_AND_ASSIGN(const json keys,
                       GgufTokenizerKeys(source, tokenizer->size(), false));
  EXPECT_EQ(keys["tokenizer.ggml.tokens"][*pad], "<|pad|>");
  EXPECT_EQ(keys["tokenizer.ggml.token_type"][*pad], 3);
  EXPECT_EQ(keys["tokenizer.chat_template"], "{{ messages }}");
  EXPECT_EQ(keys["tokenizer.ggml.add_bos_token"], false);
}

TEST(GgufTokenizerKeysTest, AChatTemplateMayLieInAFileOfItsOwn) {
  const TempFolder folder;
  const std::string source =
      With(folder, "qwen2", "chat_template.jinja", "{{ 1 }}");
  ASSERT_OK_AND_ASSIGN(const json keys, GgufTokenizerKeys(source, 4096, false));
  EXPECT_EQ(keys["tokenizer.chat_template"], "{{ 1 }}");
}

TEST(GgufTokenizerKeysTest, ATokenWithAFlagThatGgufLacksIsRefused) {
  const TempFolder folder;
  const std::string source = With(
      folder, "gpt2", "tokenizer_config.json",
      {{"added_tokens_decoder",
        {{"900", {{"content", "<m>"}, {"lstrip", true}, {"special", true}}}}}});
  EXPECT_THAT(GgufTokenizerKeys(source, 4096, false).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("the token '<m>' has 'lstrip'")));
}

TEST(GgufTokenizerKeysTest, PiecesOfATokenizerModelKeepTheirScores) {
  const TempFolder folder;
  fs::copy(std::string(kFamilies) + "sentencepiece/llama_bpe.model",
           folder.Path("tokenizer.model"));
  std::ofstream(folder.Path("tokenizer_config.json"))
      << json{{"tokenizer_class", "LlamaTokenizer"},
              {"add_bos_token", true},
              {"bos_token", "<s>"},
              {"eos_token", "</s>"},
              {"unk_token", "<unk>"}};
  ASSERT_OK_AND_ASSIGN(const json keys,
                       GgufTokenizerKeys(folder.path().string(), 4096, false));
  EXPECT_EQ(keys["tokenizer.ggml.model"], "llama");
  EXPECT_EQ(keys["tokenizer.ggml.scores"].size(), 4096u);
  EXPECT_EQ(keys["tokenizer.ggml.add_bos_token"], true);
  EXPECT_EQ(keys["tokenizer.ggml.tokens"][4095], "[PAD4095]");
  EXPECT_EQ(keys["tokenizer.ggml.token_type"][4095], 5);
}

TEST(GgufTokenizerKeysTest, VocabularyFilesAreATokenizerToo) {
  constexpr char kFolder[] = "tests/golden/tokenizer/small-files";
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Tokenizer::Load(kFolder));
  ASSERT_OK_AND_ASSIGN(const json keys,
                       GgufTokenizerKeys(kFolder, tokenizer->size(), false));
  EXPECT_EQ(keys["tokenizer.ggml.pre"], "gpt-2");
  EXPECT_FALSE(keys["tokenizer.ggml.merges"].empty());
}

}  // namespace
}  // namespace ounce::model
