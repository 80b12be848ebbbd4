// What ParseTokenizerJson refuses. What it takes is compared with the reference
// in byte_level_bpe_test.cc and tokenizer_test.cc.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/byte_level_bpe.h"
#include "nlohmann/json.hpp"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

constexpr char kFile[] = R"({
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [{"id": 3, "content": "<x>", "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false,
                    "special": true}],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
  "post_processor": null,
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
            "merges": ["a b"]}})";

// The file with `patch` (RFC 7396: null removes) laid over it.
absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> Patched(
    const std::string& patch) {
  auto file = nlohmann::json::parse(kFile);
  file.merge_patch(nlohmann::json::parse(patch));
  return ParseTokenizerJson("m/tokenizer.json", file.dump());
}

TEST(TokenizerJsonTest, TakesTheFileThatTheOtherTestsBreak) {
  EXPECT_OK(ParseTokenizerJson("t", kFile));
  EXPECT_OK(Patched(R"({"version": null, "added_tokens": null,
                        "model": {"type": null, "dropout": 0.0}})"));
  EXPECT_OK(Patched(R"({"model": {"merges": []}})"));
}

TEST(TokenizerJsonTest, NamesWhatIsNotByteLevelBpe) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({"normalizer": {"type": "NFC"}})", "normalizer: 'NFC'"},
      {R"({"normalizer": {"type": "Sequence", "normalizers": []}})",
       "normalizer: 'Sequence'"},
      {R"({"normalizer": 5})", "normalizer: number"},
      {R"({"pre_tokenizer": {"type": "Metaspace"}})",
       "pre_tokenizer: 'Metaspace'"},
      {R"({"pre_tokenizer": null})", "pre_tokenizer: none"},
      {R"({"decoder": {"type": "WordPiece"}})", "decoder: 'WordPiece'"},
      {R"({"decoder": null})", "decoder: none"},
      {R"({"model": {"type": "Unigram"}})", "'Unigram'"},
      {R"({"model": {"type": "WordPiece"}})", "'WordPiece'"},
      {R"({"model": {"dropout": 0.1}})", "dropout: 0.1"},
      {R"({"model": {"continuing_subword_prefix": "##"}})", "'##'"},
      {R"({"model": {"end_of_word_suffix": "</w>"}})", "'</w>'"},
      {R"({"model": {"byte_fallback": true}})", "byte_fallback: true"},
      {R"({"truncation": {"max_length": 5}})", "truncation"},
      {R"({"padding": {"strategy": "BatchLongest"}})", "padding"},
      {R"({"version": "2.0"})", "version: '2.0'"},
      {R"({"post_processor": {"type": "RobertaProcessing"}})",
       "post_processor: 'RobertaProcessing'"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": []}})",
       "no sequence"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single":
           [{"Sequence": {"id": "B"}}]}})",
       "sequence 'B'"},
  };
  for (const auto& [patch, found] : cases) {
    EXPECT_THAT(Patched(patch),
                StatusIs(kUnimplemented, AllOf(StartsWith("m/tokenizer.json: "),
                                               HasSubstr(found))))
        << patch;
  }
}

TEST(TokenizerJsonTest, NamesWhatIsMalformed) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({"model": null})", "'model' is missing"},
      {R"({"model": []})", "model: JSON array"},
      {R"({"model": {"type": 7}})", "'type': 7"},
      {R"({"model": {"vocab": null}})", "vocab: JSON null"},
      {R"({"model": {"vocab": []}})", "vocab: JSON array"},
      {R"({"model": {"vocab": {"a": -1}}})", "token 'a': -1"},
      {R"({"model": {"vocab": {"a": 1.5}}})", "token 'a': 1.5"},
      {R"({"model": {"vocab": {"a": "0"}}})", "token 'a': \"0\""},
      {R"({"model": {"vocab": {"a": [[0]]}}})", "token 'a': array"},
      {R"({"model": {"vocab": {"a": 4194304}}})", "token 'a': 4194304"},
      {R"({"model": {"vocab": {"a": 18446744073709551615}}})", "token 'a'"},
      {R"({"model": {"vocab": {"a": 1e300}}})", "token 'a'"},
      {R"({"added_tokens": null, "model": {"vocab": {"c": 1}}})",
       "have the same id 1"},
      {R"({"model": {"merges": null}})", "merges: JSON null"},
      {R"({"model": {"merges": {}}})", "merges: JSON object"},
      {R"({"model": {"merges": ["ab"]}})", "entry 0"},
      {R"({"model": {"merges": ["a b", "a b c"]}})", "entry 1"},
      {R"({"model": {"merges": ["a b", ["a", "b"]]}})", "entry 1"},
      {R"({"model": {"merges": [["a", "b"], "a b"]}})", "entry 1"},
      {R"({"model": {"merges": [["a", "b", "c"]]}})", "entry 0"},
      {R"({"model": {"merges": [["a", 1]]}})", "entry 0"},
      {R"({"model": {"merges": [7]}})", "entry 0"},
      {R"({"model": {"merges": ["a x"]}})", "'x' is not in the vocabulary"},
      {R"({"model": {"dropout": "no"}})", "'dropout'"},
      {R"({"model": {"fuse_unk": 1}})", "'fuse_unk'"},
      {R"({"model": {"unk_token": 1}})", "'unk_token'"},
      {R"({"added_tokens": {}})", "added_tokens: JSON object"},
      {R"({"added_tokens": [1]})", "added_tokens: entry 0"},
      {R"({"added_tokens": [{"id": 3, "content": "x"}]})", "'special'"},
      {R"({"added_tokens": [{"id": -3, "content": "x"}]})", "'id': -3"},
      {R"({"added_tokens": [{"id": 1e18, "content": "x"}]})", "'id'"},
      {R"({"pre_tokenizer": {"add_prefix_space": null}})",
       "'add_prefix_space'"},
      {R"({"pre_tokenizer": {"use_regex": "x"}})", "'use_regex'"},
      {R"({"pre_tokenizer": "ByteLevel"})", "pre_tokenizer: JSON string"},
      {R"({"decoder": {"type": null}})", "decoder: 'type'"},
      {R"({"post_processor": {"type": "Sequence", "processors": 1}})",
       "'processors'"},
      {R"({"post_processor": {"type": "TemplateProcessing"}})", "'single'"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": [1]}})",
       "'single' has a piece"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single":
           [{"SpecialToken": {"id": "<s>"}}]}})",
       "no ids for '<s>'"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single":
           [{"SpecialToken": {"id": "<s>"}}], "special_tokens":
           {"<s>": {"ids": [-1]}}}})",
       "an id for '<s>'"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single":
           [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
           "special_tokens": {"<s>": {"ids": [99]}}}})",
       "post_processor: id 99"},
  };
  for (const auto& [patch, found] : cases) {
    EXPECT_THAT(Patched(patch),
                StatusIs(kInvalid, AllOf(StartsWith("m/tokenizer.json: "),
                                         HasSubstr(found))))
        << patch;
  }
}

TEST(TokenizerJsonTest, RefusesWhatIsNoJsonObject) {
  for (const std::string text :
       {"", "null", "[]", "7", "{", "{\"a\":\"\xff\"}", "{\"a\":1,\"a\":2}"}) {
    EXPECT_THAT(ParseTokenizerJson("t.json", text),
                StatusIs(kInvalid, StartsWith("t.json: ")))
        << text;
  }
}

TEST(TokenizerJsonTest, RefusesDeepNesting) {
  const std::string text = "{\"a\":" + std::string(1'000'000, '[') +
                           std::string(1'000'000, ']') + "}";
  EXPECT_THAT(ParseTokenizerJson("t.json", text),
              StatusIs(kInvalid, HasSubstr("nested deeper")));
}

// Every prefix of a good file, and every byte of it changed.
TEST(TokenizerJsonTest, SurvivesEveryCutAndEveryChangedByte) {
  const std::string file = kFile;
  for (size_t i = 0; i < file.size(); ++i) {
    EXPECT_FALSE(ParseTokenizerJson("t", file.substr(0, i)).ok());
    for (const char c : {'"', '9', '{', '-', '\xc3', '\0'}) {
      std::string changed = file;
      changed[i] = c;
      const auto bpe = ParseTokenizerJson("t", changed);
      if (bpe.ok()) {
        EXPECT_OK((*bpe)->Encode("abab <x>"));
      }
    }
  }
}

}  // namespace
}  // namespace ounce::model
