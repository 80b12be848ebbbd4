#include "model/tokenizer/tokenizer.h"

#include <openssl/sha.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/model/tokenizer/golden_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using TokenizerPtr = std::unique_ptr<const Tokenizer>;

// What a decoder must show for bytes that are no UTF-8, by the plain rule: one
// U+FFFD for each part that is broken off.
std::string Lossy(const std::string& bytes) {
  std::string text;
  std::string_view rest = bytes;
  while (true) {
    const size_t valid = ValidUtf8Prefix(rest);
    text += rest.substr(0, valid);
    rest.remove_prefix(valid);
    if (rest.empty()) return text;
    // The longest prefix that some continuation makes valid, at least one byte.
    size_t broken = 1;
    for (size_t length = std::min<size_t>(3, rest.size()); length > 1;
         --length) {
      bool can_go_on = false;
      for (const char* tail : {"\x80", "\xbf", "\x80\x80", "\xbf\xbf"}) {
        const std::string whole = std::string(rest.substr(0, length)) + tail;
        if (ValidUtf8Prefix(whole) == whole.size()) can_go_on = true;
      }
      if (can_go_on) {
        broken = length;
        break;
      }
    }
    text += "\xef\xbf\xbd";
    rest.remove_prefix(broken);
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

void ExpectGoldens(const Tokenizer& tokenizer, const std::string& ids_name) {
  const std::vector<std::string> texts = GoldenTexts();
  const std::vector<std::vector<int32_t>> ids = GoldenIds(ids_name);
  ASSERT_GE(texts.size(), 3000u);
  ASSERT_EQ(texts.size(), ids.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    ASSERT_OK_AND_ASSIGN(const auto found, tokenizer.Encode(texts[i]));
    EXPECT_EQ(found, ids[i]) << "line " << i + 1 << " of strings.jsonl";
    EXPECT_EQ(tokenizer.Decode(found, /*skip_special=*/false), texts[i]);
    EXPECT_EQ(Streamed(tokenizer, found), tokenizer.Decode(found));
  }
}

TEST(TokenizerTest, GivesTheIdsOfTheReferenceForTheGoldenTexts) {
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       Tokenizer::Load(GoldenPath("small")));
  EXPECT_EQ(tokenizer->size(), 2038);
  ExpectGoldens(*tokenizer, "small_ids.txt");
}

TEST(TokenizerTest, GivesTheSameIdsFromTheOlderFiles) {
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       Tokenizer::Load(GoldenPath("small-files")));
  EXPECT_EQ(tokenizer->size(), 2038);
  ExpectGoldens(*tokenizer, "small_ids.txt");
}

// All golden texts in one, so that words meet that were met before.
TEST(TokenizerTest, RoundTripsALongText) {
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       Tokenizer::Load(GoldenPath("small")));
  std::string text;
  for (const std::string& part : GoldenTexts()) text += part + "|";
  ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer->Encode(text));
  EXPECT_TRUE(tokenizer->Decode(ids, false) == text);
}

// Each byte a token of its own: the golden texts cut in every place, and bytes
// that are no text at all.
TEST(StreamDecoderTest, EqualsDecodeWhereverTheTokensCut) {
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       Tokenizer::Load(GoldenPath("small")));
  std::vector<int32_t> id_of_byte(256, -1);
  for (int32_t id = 0; id < tokenizer->size(); ++id) {
    const std::string bytes = tokenizer->Decode({&id, 1});
    if (bytes.size() == 1) id_of_byte[static_cast<uint8_t>(bytes[0])] = id;
  }
  const auto expect_equal = [&](const std::string& bytes) {
    std::vector<int32_t> ids;
    for (const char c : bytes) {
      ids.push_back(id_of_byte[static_cast<uint8_t>(c)]);
    }
    ASSERT_EQ(tokenizer->Decode(ids), bytes);
    EXPECT_EQ(Streamed(*tokenizer, ids), Lossy(bytes));
  };
  for (const std::string& text : GoldenTexts()) expect_equal(text);
  std::mt19937 random(3);
  const std::string leads =
      "\xc0\xc2\xdf\xe0\xe1\xed\xef\xf0\xf1\xf4\xf5\xff\x80\x8f\x90\x9f\xa0\xbf"
      "a";
  for (int round = 0; round < 5000; ++round) {
    std::string bytes;
    for (uint32_t i = random() % 8 + 1; i > 0; --i) {
      bytes += leads[random() % leads.size()];
    }
    expect_equal(bytes);
  }
}

TEST(StreamDecoderTest, HoldsBackAtMostThreeBytes) {
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                       Tokenizer::Load(GoldenPath("small")));
  ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer->Encode("\U0001fae0"));
  ASSERT_EQ(ids.size(), 4u);  // a byte each
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.Push(ids[0]), "");
  EXPECT_EQ(decoder.Push(ids[1]), "");
  EXPECT_EQ(decoder.Push(ids[2]), "");
  EXPECT_EQ(decoder.Push(ids[3]), "\U0001fae0");
  EXPECT_EQ(decoder.Finish(), "");
  // Cut short, it is broken once; broken early, it doesn't wait.
  EXPECT_EQ(decoder.Push(ids[0]), "");
  EXPECT_EQ(decoder.Push(ids[0]), "\ufffd");
  EXPECT_EQ(decoder.Push(ids[1]), "");
  EXPECT_EQ(decoder.Finish(), "\ufffd");
  EXPECT_EQ(decoder.Finish(), "");
  // Ids that stand for nothing change nothing.
  EXPECT_EQ(decoder.Push(-1), "");
  EXPECT_EQ(decoder.Push(1 << 30), "");
  EXPECT_EQ(decoder.Finish(), "");
}

TEST(TokenizerTest, SaysWhichFilesAreMissing) {
  const TempFolder folder;
  EXPECT_THAT(Tokenizer::Load(folder.Path("nowhere")),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("nowhere"), HasSubstr("merges.txt"))));
  folder.WriteFile("vocab.json", "{}");
  EXPECT_THAT(Tokenizer::Load(folder.path().string()),
              StatusIs(absl::StatusCode::kNotFound));
  folder.WriteFile("merges.txt", "");
  EXPECT_OK(Tokenizer::Load(folder.path().string()));
}

TEST(TokenizerTest, PrefersTheOneFileAndNamesItWhenItIsMalformed) {
  const TempFolder folder;
  folder.WriteFile("vocab.json", "{}");
  folder.WriteFile("merges.txt", "");
  const std::string path = folder.WriteFile("tokenizer.json", "{");
  EXPECT_THAT(Tokenizer::Load(folder.path().string()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(path)));
  folder.WriteFile("tokenizer.json", std::string(50'000'001, ' '));
  EXPECT_THAT(Tokenizer::Load(folder.path().string()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("must have at most 50000000 bytes, has "
                                 "50000001")));
}

constexpr char kBareTokenizer[] = R"({
  "version": "1.0",
  "added_tokens": [{"id": 2, "content": "<s>", "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false,
                    "special": true}],
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})";

TEST(TokenizerTest, TakesTheClassOfTheModelsTypeWhereNoFileNamesOne) {
  const TempFolder folder;
  folder.WriteFile("tokenizer.json", kBareTokenizer);
  const auto ids = [&]() -> std::vector<int32_t> {
    const auto tokenizer = Tokenizer::Load(folder.path());
    EXPECT_OK(tokenizer.status());
    return *(*tokenizer)->Encode("ab");
  };
  EXPECT_THAT(ids(), ElementsAre(0, 1));
  for (const auto& [type, begins] :
       {std::pair{"llama", true},
        {"mistral", true},
        {"phi3", true},
        {"gpt2", false},
        {"opt", false},
        {"qwen2", false},
        {"unknown", false},
        // Its class begins with <bos>, which this vocabulary does not have.
        {"gemma", false}}) {
    folder.WriteFile("config.json",
                     absl::StrCat(R"({"model_type": ")", type, R"("})"));
    EXPECT_EQ(ids(), begins ? (std::vector<int32_t>{2, 0, 1})
                            : (std::vector<int32_t>{0, 1}))
        << type;
  }
  folder.WriteFile("config.json", R"({"model_type": "llama"})");
  folder.WriteFile("tokenizer_config.json", R"({"add_bos_token": false})");
  EXPECT_THAT(ids(), ElementsAre(0, 1));
  folder.WriteFile("tokenizer_config.json",
                   R"({"tokenizer_class": "GPT2Tokenizer"})");
  EXPECT_THAT(ids(), ElementsAre(0, 1));
}

// A tokenizer.model has a class of its own.
TEST(TokenizerTest, ReadsATokenizerModelAsLlamasBesideAnyOtherModelsType) {
  const auto ids = [](const char* type) -> std::vector<int32_t> {
    const TempFolder folder;
    std::filesystem::copy(GoldenPath("families/sentencepiece/llama_bpe.model"),
                          folder.Path("tokenizer.model"));
    folder.WriteFile("config.json",
                     absl::StrCat(R"({"model_type": ")", type, R"("})"));
    const auto tokenizer = Tokenizer::Load(folder.path());
    EXPECT_OK(tokenizer.status());
    return *(*tokenizer)->Encode("ab");
  };
  EXPECT_EQ(ids("llama").front(), 1);  // <s>
  EXPECT_EQ(ids("gpt2"), ids("llama"));
}

TEST(TokenizerTest, RefusesToCutSpecialTokensUp) {
  const TempFolder folder;
  folder.WriteFile("tokenizer.json", kBareTokenizer);
  folder.WriteFile("tokenizer_config.json",
                   R"({"split_special_tokens": true})");
  EXPECT_THAT(Tokenizer::Load(folder.path()),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("'split_special_tokens' must be false")));
}

TEST(TokenizerTest, MergesTheFilesOfAFolderAsTheReferenceDoes) {
  int num_folders = 0;
  for (const std::string& line : GoldenLines("folders.jsonl")) {
    const auto golden = nlohmann::json::parse(line);
    SCOPED_TRACE(golden["name"].get<std::string>());
    const TempFolder folder;
    for (const auto& [name, content] : golden["files"].items()) {
      folder.WriteFile(name, content.get<std::string>());
    }
    ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer,
                         Tokenizer::Load(folder.path().string()));
    for (const auto& text_ids_decoded : golden["cases"]) {
      const auto text = text_ids_decoded[0].get<std::string>();
      ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer->Encode(text));
      EXPECT_EQ(ids, text_ids_decoded[1].get<std::vector<int32_t>>()) << text;
      EXPECT_EQ(tokenizer->Decode(ids), text_ids_decoded[2].get<std::string>())
          << text;
    }
    ++num_folders;
  }
  EXPECT_GT(num_folders, 30);
}

// A published file: its name, size and SHA-256.
struct PublishedFile {
  const char* name;
  size_t size;
  const char* sha256;
};

std::string SharedFolder(const std::string& name) {
  const char* shared = std::getenv("OUNCE_SHARED_DATA");
  return std::string(shared != nullptr ? shared : "../shared/data") + "/" +
         name;
}

void ExpectPublished(const std::string& folder, const PublishedFile& file) {
  const std::string path = folder + "/" + file.name;
  const std::string bytes = ReadWholeFile(path);
  ASSERT_EQ(bytes.size(), file.size) << path;
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), digest);
  std::string hex;
  for (const uint8_t byte : digest) {
    constexpr char kDigits[] = "0123456789abcdef";
    hex += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  ASSERT_EQ(hex, file.sha256) << path;
}

// The first small real model, of section 6 of the project's test data: no
// pre-tokenizer, so merges cross words, and byte fallback without byte tokens.
TEST(TinyStoriesTokenizerTest, GivesThePublishedIds) {
  const std::string folder = SharedFolder("tinystories-656k");
  const PublishedFile files[] = {
      {"tokenizer.json", 86'434,
       "9a7917d490ac034a4e69eb081096226971887e9e66b0969355421613f62b12e7"},
      {"tokenizer_config.json", 933,
       "b41898ab69aa46f6bd13416e9662542e056d0727d565bac0e6552efc08438809"},
      {"special_tokens_map.json", 569,
       "e530a890d28bf0c1e0dfc61b480231d59501cbd3d177ec82bf74547110239175"}};
  for (const PublishedFile& file : files) {
    if (!std::filesystem::exists(folder + "/" + file.name)) {
      GTEST_SKIP() << folder << "/" << file.name
                   << " is absent; OUNCE_SHARED_DATA names its folder";
    }
    ASSERT_NO_FATAL_FAILURE(ExpectPublished(folder, file));
  }
  ASSERT_OK_AND_ASSIGN(const TokenizerPtr tokenizer, Tokenizer::Load(folder));
  EXPECT_EQ(tokenizer->size(), 2048);
  const std::vector<std::pair<std::string, std::vector<int32_t>>> cases = {
      {"Once upon a time", {1, 80, 147, 201, 282, 57}},
      {"Once upon a time, there was a little girl named Lily.",
       {1, 80, 147, 201, 282, 215, 286, 598, 629, 10}},
      {" two  spaces\n", {1, 80, 80, 1209, 80, 415, 53, 1499, 3}},
      {"caf\u00e9 \u2603", {1, 80, 295, 58, 0, 80, 0}}};
  for (const auto& [text, ids] : cases) {
    ASSERT_OK_AND_ASSIGN(const auto found, tokenizer->Encode(text));
    EXPECT_EQ(found, ids) << text;
    EXPECT_EQ(Streamed(*tokenizer, ids), tokenizer->Decode(ids));
  }
  EXPECT_EQ(tokenizer->Decode(cases[1].second), cases[1].first);
}

// CodeGen's published tokenizer (section 3 of the project's test data).
class CodeGenTokenizerTest : public ::testing::Test {
 protected:
  using File = PublishedFile;
  static constexpr File kTokenizerJson = {
      "tokenizer.json", 2'114'924,
      "337da36be7a71a6e88aa9148967a7bc8736f4b47c7de8e19ba92b89e80734cfc"};
  static constexpr File kOlderFiles[] = {
      {"vocab.json", 798'156,
       "3ba3c3109ff33976c4bd966589c11ee14fcaa1f4c9e5e154c2ed7f99d80709e7"},
      {"merges.txt", 456'318,
       "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"},
      {"added_tokens.json", 1'106,
       "9fb0266cda3913fb26be811016368c56d836c43f875ce39365a7e135709a77d6"},
      {"tokenizer_config.json", 7'374,
       "c5ce331b2e80b3b402bb2b73c5bb748c780c1bd482544323ac5cf884dbfbd219"}};

  void SetUp() override {
    source_ = SharedFolder("tokenizer-codegen");
    std::vector<File> files(std::begin(kOlderFiles), std::end(kOlderFiles));
    files.push_back(kTokenizerJson);
    for (const File& file : files) {
      const std::string path = source_ + "/" + file.name;
      if (!std::filesystem::exists(path)) {
        GTEST_SKIP() << path
                     << " is absent; OUNCE_SHARED_DATA names its folder";
      }
      ASSERT_NO_FATAL_FAILURE(ExpectPublished(source_, file));
    }
  }

  // A folder with some of the files, so that no other is read.
  TokenizerPtr Load(const std::vector<std::string>& names) {
    const TempFolder folder;
    for (const std::string& name : names) {
      folder.WriteFile(name, ReadWholeFile(source_ + "/" + name));
    }
    auto tokenizer = Tokenizer::Load(folder.path().string());
    EXPECT_OK(tokenizer);
    return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
  }

  std::string source_;
};

TEST_F(CodeGenTokenizerTest, GivesThePublishedIds) {
  const TokenizerPtr tokenizer = Load({"tokenizer.json"});
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->size(), 50295);
  // The first three: huggingface/transformers,
  // tests/models/codegen/test_tokenization_codegen.py.
  const std::vector<std::pair<std::string, std::vector<int32_t>>> cases = {
      {"Transformers (formerly known as pytorch-transformers and "
       "pytorch-pretrained-bert) provides general-purpose architectures (BERT, "
       "GPT-2, RoBERTa, XLM, DistilBert, XLNet...) for Natural Language "
       "Understanding (NLU) and Natural Language Generation (NLG) with over "
       "32+ "
       "pretrained models in 100+ languages and deep interoperability between "
       "Jax, PyTorch and TensorFlow.",
       {41762, 364,   357,   36234, 1900,  355,   12972, 13165, 354,   12,
        35636, 364,   290,   12972, 13165, 354,   12,    5310,  13363, 12,
        4835,  8,     3769,  2276,  12,    29983, 45619, 357,   13246, 51,
        11,    402,   11571, 12,    17,    11,    5564,  13246, 38586, 11,
        16276, 44,    11,    4307,  346,   33,    861,   11,    16276, 7934,
        23029, 329,   12068, 15417, 28491, 357,   32572, 52,    8,     290,
        12068, 15417, 16588, 357,   32572, 38,    8,     351,   625,   3933,
        10,    2181,  13363, 4981,  287,   1802,  10,    8950,  290,   2769,
        48817, 1799,  1022,  449,   897,   11,    9485,  15884, 354,   290,
        309,   22854, 37535, 13}},
      {"BERT is designed to pre-train deep bidirectional representations from "
       "unlabeled text by jointly conditioning on both left and right context "
       "in all layers.",
       {13246, 51,    318, 3562, 284,  662, 12,   27432, 2769,  8406,  4154,
        282,   24612, 422, 9642, 9608, 276, 2420, 416,   26913, 21143, 319,
        1111,  1364,  290, 826,  4732, 287, 477,  11685, 13}},
      {"The quick brown fox jumps over the lazy dog.",
       {464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290, 13}},
      {"Hello world", {15496, 995}},
      {"def f(x):\n    return x\n",
       {4299, 277, 7, 87, 2599, 198, 50284, 7783, 2124, 198}},
      {"def hello_world():\n    print(\"Hello World\")",
       {4299, 23748, 62, 6894, 33529, 198, 50284, 4798, 7203, 15496, 2159,
        4943}},
      {"\tif a:\n\t\tb = 1\n",
       {197, 361, 257, 25, 198, 50294, 65, 796, 352, 198}},
      {std::string("a").append(31, ' ') + "b", {64, 50257, 65}},
      {std::string("a").append(32, ' ') + "b", {64, 50257, 275}},
      {std::string(33, ' ') + "x", {50257, 50286, 87}},
      {"x  y\n\n\n", {87, 50286, 88, 628, 198}},
      {"a\t\t b", {64, 50294, 275}},
      {"caf\u00e9 \u2603 \U0001f600", {66, 1878, 2634, 34719, 225, 30325, 222}},
      {"it's 2024, I'LL", {270, 338, 48609, 11, 314, 6, 3069}},
      {"<|endoftext|>", {50256}},
  };
  for (const auto& [text, ids] : cases) {
    ASSERT_OK_AND_ASSIGN(const auto found, tokenizer->Encode(text));
    EXPECT_EQ(found, ids) << text;
    EXPECT_EQ(tokenizer->Decode(ids, /*skip_special=*/false), text);
  }
}

TEST_F(CodeGenTokenizerTest, KeepsWhiteSpaceWhenItLeavesOutSpecialTokens) {
  const TokenizerPtr tokenizer = Load({"tokenizer.json"});
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->Decode({64, 50286, 50256, 50294, 65}), "a  \t\tb");
  // Padding of the model's vocabulary.
  EXPECT_EQ(tokenizer->Decode({50295, 51199}), "");
  for (int32_t n = 2; n <= 31; ++n) {
    EXPECT_EQ(tokenizer->Decode({50288 - n}), std::string(n, ' '));
  }
  for (int32_t n = 2; n <= 9; ++n) {
    EXPECT_EQ(tokenizer->Decode({50296 - n}), std::string(n, '\t'));
  }
}

TEST_F(CodeGenTokenizerTest, GivesTheIdsOfTheReferenceForTheGoldenTexts) {
  const TokenizerPtr tokenizer = Load({"tokenizer.json"});
  ASSERT_NE(tokenizer, nullptr);
  ExpectGoldens(*tokenizer, "codegen_ids.txt");
}

TEST_F(CodeGenTokenizerTest, GivesTheSameIdsFromTheOlderFiles) {
  const std::vector<std::vector<std::string>> forms = {
      {"vocab.json", "merges.txt", "added_tokens.json"},
      {"vocab.json", "merges.txt", "tokenizer_config.json"},
      {"vocab.json", "merges.txt", "added_tokens.json",
       "tokenizer_config.json"}};
  for (const std::vector<std::string>& names : forms) {
    const TokenizerPtr tokenizer = Load(names);
    ASSERT_NE(tokenizer, nullptr);
    EXPECT_EQ(tokenizer->size(), 50295);
    ExpectGoldens(*tokenizer, "codegen_ids.txt");
  }
}

}  // namespace
}  // namespace ounce::model
