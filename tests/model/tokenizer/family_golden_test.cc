// Tokenizers of every make against Hugging Face `tokenizers`: all that
// tools/make_tokenizer_family_goldens.py wrote.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/tokenizer_json.h"
#include "nlohmann/json.hpp"
#include "tests/model/tokenizer/golden_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using ::ounce::testing::TempFolder;

using TokenizerPtr = std::unique_ptr<const Tokenizer>;

// In tests/golden/tokenizer/families/, with the tokenizer.
constexpr const char* kFamilies[] = {
    "albert", "bert",          "bert_cased", "bloom",      "falcon",
    "gemma",  "gpt2",          "gpt_neox",   "llama2",     "llama2_metaspace",
    "llama3", "opt",           "qwen2",      "roberta",    "starcoder",
    "t5",     "unigram_bytes", "word_level", "xlm_roberta"};

// Also there, but the tokenizer is a published one: its folder is sought in
// OUNCE_SHARED_DATA, else in ../shared/data.
struct Published {
  const char* name;
  const char* folder;
};
constexpr Published kPublished[] = {{"codegen", "tokenizer-codegen"},
                                    {"smollm2", "smollm2"},
                                    {"tinystories-656k", "tinystories-656k"}};

std::string FamilyPath(const std::string& name) {
  return GoldenPath("families/" + name);
}

const std::vector<std::string>& MoreTexts() {
  static const auto* const kTexts = [] {
    auto* texts = new std::vector<std::string>;
    for (const std::string& line : GoldenLines("families/strings.jsonl")) {
      texts->push_back(nlohmann::json::parse(line).get<std::string>());
    }
    return texts;
  }();
  return *kTexts;
}

const std::vector<std::string>& AllTexts() {
  static const auto* const kTexts = [] {
    auto* texts = new std::vector<std::string>(GoldenTexts());
    texts->insert(texts->end(), MoreTexts().begin(), MoreTexts().end());
    return texts;
  }();
  return *kTexts;
}

// The upper 24 of 32 bits of FNV-1a.
std::string ShortHash(std::string_view text) {
  uint32_t value = 0x811c9dc5;
  for (const char c : text)
    value = (value ^ static_cast<uint8_t>(c)) * 0x01000193;
  return absl::StrFormat("%06x", value >> 8);
}

std::string Shown(const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) {
    if (!text.empty()) text += ' ';
    text += std::to_string(id);
  }
  return text;
}

// What the reference shows for bytes that are no UTF-8.
std::string AsText(std::string_view bytes) {
  std::string text;
  while (true) {
    const size_t valid = ValidUtf8Prefix(bytes);
    text += bytes.substr(0, valid);
    bytes.remove_prefix(valid);
    if (bytes.empty()) return text;
    text += "\xef\xbf\xbd";
    bytes.remove_prefix(FirstUtf8Sequence(bytes).length);
  }
}

std::string Streamed(const Tokenizer& tokenizer,
                     const std::vector<int32_t>& ids) {
  StreamDecoder decoder(tokenizer);
  std::string text;
  for (const int32_t id : ids) {
    const std::string piece = decoder.Push(id);
    EXPECT_EQ(ValidUtf8Prefix(piece), piece.size());
    text += piece;
  }
  return text + decoder.Finish();
}

// What is not as in `line`: the hash of the ids, that of both decoded texts or
// "=", and of some texts the ids themselves. Empty if all is.
std::string Difference(const Tokenizer& tokenizer, const std::string& text,
                       const std::string& line) {
  std::istringstream fields(line);
  std::string ids_hash;
  std::string decoded_hash;
  fields >> ids_hash >> decoded_hash;
  std::string wanted;
  std::getline(fields >> std::ws, wanted);

  const auto ids = tokenizer.Encode(text);
  if (!ids.ok()) return ids.status().ToString();
  if (ShortHash(Shown(*ids)) != ids_hash) {
    return "ids: " + Shown(*ids) +
           (wanted.empty() ? "" : "\nwanted: " + wanted);
  }
  const std::string without = AsText(tokenizer.Decode(*ids, true));
  const std::string with = AsText(tokenizer.Decode(*ids, false));
  if (decoded_hash == "=" ? without != text || with != text
                          : ShortHash(without + '\0' + with) != decoded_hash) {
    return "decodes to: " + without + "\nwith special tokens: " + with;
  }
  const std::string streamed = Streamed(tokenizer, *ids);
  return streamed == without ? "" : "streamed: " + streamed;
}

// A decode.jsonl case: [ids, text without special tokens, text with them].
void ExpectDecoded(const Tokenizer& tokenizer, const nlohmann::json& golden) {
  const auto ids = golden[0].get<std::vector<int32_t>>();
  SCOPED_TRACE(Shown(ids));
  EXPECT_EQ(AsText(tokenizer.Decode(ids, true)), golden[1].get<std::string>());
  EXPECT_EQ(AsText(tokenizer.Decode(ids, false)), golden[2].get<std::string>());
  EXPECT_EQ(Streamed(tokenizer, ids), golden[1].get<std::string>());
}

void ExpectTexts(const Tokenizer& tokenizer,
                 const std::vector<std::string>& texts,
                 const std::vector<std::string>& lines) {
  ASSERT_EQ(lines.size(), texts.size());
  int num_different = 0;
  for (size_t i = 0; i < lines.size() && num_different < 10; ++i) {
    const std::string difference = Difference(tokenizer, texts[i], lines[i]);
    if (difference.empty()) continue;
    ++num_different;
    ADD_FAILURE() << "text " << i + 1 << ": " << nlohmann::json(texts[i]).dump()
                  << "\n"
                  << difference;
  }
}

void ExpectGoldens(const Tokenizer& tokenizer, const std::string& name) {
  const std::vector<std::string> lines =
      GoldenLines("families/" + name + "/expected.txt");
  ASSERT_GE(lines.size(), 4000u);
  ExpectTexts(tokenizer, AllTexts(), lines);
  for (const std::string& line :
       GoldenLines("families/" + name + "/decode.jsonl")) {
    ExpectDecoded(tokenizer, nlohmann::json::parse(line));
  }
}

class FamilyGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(FamilyGoldenTest, GivesTheIdsAndTheTextsOfTheReference) {
  const std::string path =
      FamilyPath(std::string(GetParam()) + "/tokenizer.json");
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       ParseTokenizerJson(path, ReadWholeFile(path)));
  ExpectGoldens(*tokenizer, GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, FamilyGoldenTest, ::testing::ValuesIn(kFamilies),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

class PublishedGoldenTest : public ::testing::TestWithParam<Published> {};

TEST_P(PublishedGoldenTest, GivesTheIdsAndTheTextsOfTheReference) {
  const char* shared = std::getenv("OUNCE_SHARED_DATA");
  const std::string folder =
      std::string(shared != nullptr ? shared : "../shared/data") + "/" +
      GetParam().folder;
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer, Tokenizer::Load(folder));
  ExpectGoldens(*tokenizer, GetParam().name);
}

INSTANTIATE_TEST_SUITE_P(All, PublishedGoldenTest,
                         ::testing::ValuesIn(kPublished), [](const auto& info) {
                           std::string name = info.param.name;
                           for (char& c : name) {
                             if (c == '-') c = '_';
                           }
                           return name;
                         });

// What transformers makes of a folder with a tokenizer.model.
TEST(SentencePieceGoldenTest, GivesTheIdsAndTheTextsOfTheReference) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < 600; i += 3) texts.push_back(AllTexts()[i]);
  texts.insert(texts.end(), MoreTexts().begin(), MoreTexts().end());
  int num_cases = 0;
  for (const std::string& line :
       GoldenLines("families/sentencepiece/cases.jsonl")) {
    const auto golden = nlohmann::json::parse(line);
    SCOPED_TRACE(golden["name"].get<std::string>());
    const TempFolder folder;
    folder.WriteFile(
        "tokenizer.model",
        ReadWholeFile(FamilyPath(
            "sentencepiece/" + golden["model"].get<std::string>() + ".model")));
    if (golden.contains("family")) {
      folder.WriteFile(
          "tokenizer.json",
          ReadWholeFile(FamilyPath(golden["family"].get<std::string>() +
                                   "/tokenizer.json")));
    }
    if (!golden["tokenizer_config"].is_null()) {
      folder.WriteFile("tokenizer_config.json",
                       golden["tokenizer_config"].dump());
    }
    ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                         Tokenizer::Load(folder.path().string()));
    EXPECT_EQ(tokenizer->size(), golden["size"].get<int32_t>());
    ExpectTexts(*tokenizer, texts,
                golden["expected"].get<std::vector<std::string>>());
    for (const auto& decoded : golden["decode"]) {
      ExpectDecoded(*tokenizer, decoded);
    }
    ++num_cases;
  }
  EXPECT_GE(num_cases, 13);
}

}  // namespace
}  // namespace ounce::model
