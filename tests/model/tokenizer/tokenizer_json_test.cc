// What ParseTokenizerJson refuses. What it takes is compared with the reference
// in byte_level_bpe_test.cc and tokenizer_test.cc.
#include "model/tokenizer/tokenizer_json.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
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
absl::StatusOr<std::unique_ptr<const Tokenizer>> Patched(
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
  // What a caller may ask the library for, and every file saved after that has.
  EXPECT_OK(Patched(R"({"truncation": {"max_length": 5},
                        "padding": {"strategy": "BatchLongest"}})"));
  EXPECT_OK(Patched(R"({"normalizer": {"type": "Sequence",
                                       "normalizers": []}})"));
}

TEST(TokenizerJsonTest, NamesWhatIsNotSupported) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({"normalizer": {"type": "Nonsense"}})",
       "normalizer: type 'Nonsense' is not supported"},
      {R"({"normalizer": {"type": "Sequence", "normalizers":
           [{"type": "Nonsense"}]}})",
       "normalizer: type 'Nonsense' is not supported"},
      {R"({"normalizer": {"type": "Prepend", "prepend": "x", "more": 1}})",
       "normalizer Prepend: key 'more' is not known"},
      {R"({"pre_tokenizer": {"type": "Nonsense"}})",
       "pre_tokenizer: type 'Nonsense' is not supported"},
      {R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers":
           [{"type": "Nonsense"}, {"type": "ByteLevel",
             "add_prefix_space": false}]}})",
       "pre_tokenizer: type 'Nonsense' is not supported"},
      {R"({"pre_tokenizer": {"more": 1}})",
       "pre_tokenizer ByteLevel: key 'more' is not known"},
      {R"({"pre_tokenizer": {"type": "UnicodeScripts"}})",
       "pre_tokenizer: type 'UnicodeScripts' is not supported"},
      {R"({"pre_tokenizer": {"type": "Split", "add_prefix_space": null,
           "pattern": {"String": "a"},
           "behavior": "Nonsense", "invert": false}})",
       "pre_tokenizer Split: 'behavior' 'Nonsense' is not supported"},
      {R"({"pre_tokenizer": {"type": "Split", "add_prefix_space": null,
           "pattern": {"String": ""},
           "behavior": "Removed", "invert": false}})",
       "pre_tokenizer Split: 'pattern' must not be empty"},
      {R"({"pre_tokenizer": {"type": "Split", "add_prefix_space": null,
           "pattern": {"Regex": "\\X"},
           "behavior": "Removed", "invert": false}})",
       "pre_tokenizer Split: regular expression: "},
      {R"({"normalizer": {"type": "Replace", "pattern": {"Glob": "*"},
           "content": ""}})",
       "normalizer Replace: 'pattern' must be a String or a Regex, is Glob"},
      {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "x",
           "prepend_scheme": "last", "add_prefix_space": null}})",
       "'prepend_scheme' must be always, first or never, is 'last'"},
      {R"({"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"},
           {"type": "ByteFallback"}]}})",
       "decoder ByteFallback: must stand before the step that makes one"},
      {R"({"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"},
           {"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}]}})",
       "decoder Replace: must stand before the step that makes one"},
      {R"({"decoder": {"type": "BPEDecoder", "suffix": ""}})",
       "decoder BPEDecoder: 'suffix' must not be empty"},
      {R"({"decoder": {"type": "CTC"}})",
       "decoder: type 'CTC' is not supported"},
      {R"({"decoder": {"more": 1}})",
       "decoder ByteLevel: key 'more' is not known"},
      {R"({"model": {"type": "Nonsense"}})",
       "model: type 'Nonsense' is not supported"},
      {R"({"model": {"dropout": 0.1}})", "dropout must be 0, is 0.1"},
      {R"({"model": {"more": 1}})", "model: key 'more' is not known"},
      {R"({"more": 1})", "key 'more' is not known"},
      {R"({"version": "2.0"})", "version must be 1.0, is '2.0'"},
      {R"({"post_processor": {"type": "Nonsense"}})",
       "post_processor: type 'Nonsense' is not supported"},
      {R"({"post_processor": {"type": "Sequence", "processors":
           [{"type": "BertProcessing", "cls": ["a", 0], "sep": ["b", 1]},
            {"type": "BertProcessing", "cls": ["a", 0], "sep": ["b", 1]}]}})",
       "post_processor must have one step that adds tokens, has more"},
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
      {R"({"normalizer": 5})", "normalizer must be an object, is JSON number"},
      {R"({"normalizer": {"type": "Sequence", "normalizers": null}})",
       "normalizer: 'normalizers' must be an array, is JSON null"},
      {R"({"padding": {"pad_token": 7}})",
       "padding: 'pad_token' must be a string, is 7"},
      {R"({"model": []})", "model must be an object, is JSON array"},
      {R"({"model": {"type": 7}})", "'type' must be a string, is 7"},
      {R"({"model": {"vocab": null}})",
       "vocab must be an object, is JSON null"},
      {R"({"model": {"vocab": []}})", "vocab must be an object, is JSON array"},
      {R"({"model": {"vocab": {"a": -1}}})",
       "token 'a' must be from 0 to 4194303, is -1"},
      {R"({"model": {"vocab": {"a": 1.5}}})", "is 1.5"},
      {R"({"model": {"vocab": {"a": "0"}}})", "is \"0\""},
      {R"({"model": {"vocab": {"a": [[0]]}}})", "is array"},
      {R"({"model": {"vocab": {"a": 4194304}}})", "is 4194304"},
      {R"({"model": {"vocab": {"a": 18446744073709551615}}})", "token 'a'"},
      {R"({"model": {"vocab": {"a": 1e300}}})", "token 'a'"},
      {R"({"added_tokens": null, "model": {"vocab": {"c": 1}}})",
       "have the same id 1"},
      {R"({"normalizer": {"type": "Strip", "strip_left": true}})",
       "normalizer Strip: 'strip_right' must be true or false, is missing"},
      {R"({"normalizer": {"type": "Replace", "pattern": "a"}})",
       "normalizer Replace: 'pattern' must be an object"},
      {R"({"normalizer": {"type": "BertNormalizer", "clean_text": 1}})",
       "normalizer BertNormalizer: 'clean_text'"},
      {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "xy"}})",
       "pre_tokenizer Metaspace: 'replacement' must be one character"},
      {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "x",
           "add_prefix_space": false, "prepend_scheme": "first"}})",
       "'add_prefix_space' must be true where 'prepend_scheme' is 'first'"},
      {R"({"pre_tokenizer": {"type": "Digits", "add_prefix_space": null}})",
       "pre_tokenizer Digits: 'individual_digits'"},
      {R"({"pre_tokenizer": {"type": "FixedLength", "add_prefix_space": null,
           "length": 0}})",
       "pre_tokenizer FixedLength: 'length' must be an integer from 1"},
      {R"({"pre_tokenizer": {"type": "Split", "add_prefix_space": null,
           "pattern": {"Regex": "("},
           "behavior": "Removed", "invert": false}})",
       "pre_tokenizer Split: regular expression: a '(' is not closed"},
      {R"({"decoder": {"type": "Strip", "content": "ab", "start": 0,
           "stop": 0}})",
       "decoder Strip: 'content' must be one character, is 'ab'"},
      {R"({"decoder": {"type": "Strip", "content": "a", "start": -1,
           "stop": 0}})",
       "decoder Strip: 'start' must be an integer from 0"},
      {R"({"model": {"unk_token": "<unk>", "byte_fallback": true}})",
       "unk_token '<unk>' is not in the vocabulary, which lacks characters"},
      {R"({"post_processor": {"type": "BertProcessing", "cls": ["a", 0]}})",
       "'sep' must be a token and its id"},
      {R"({"post_processor": {"type": "RobertaProcessing", "cls": ["a", -1],
           "sep": ["b", 1]}})",
       "'cls' must be a token and its id"},
      {R"({"model": {"merges": null}})",
       "merges must be an array, is JSON null"},
      {R"({"model": {"merges": {}}})",
       "merges must be an array, is JSON object"},
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
      {R"({"added_tokens": {}})",
       "added_tokens must be an array, is JSON object"},
      {R"({"added_tokens": [1]})", "added_tokens: entry 0"},
      {R"({"added_tokens": [{"id": 3, "content": "x"}]})", "'special'"},
      {R"({"added_tokens": [{"id": -3, "content": "x"}]})",
       "'id' must be an integer from 0 to 4194303, is -3"},
      {R"({"added_tokens": [{"id": 1e18, "content": "x"}]})", "'id'"},
      {R"({"pre_tokenizer": {"add_prefix_space": null}})",
       "'add_prefix_space'"},
      {R"({"pre_tokenizer": {"use_regex": "x"}})", "'use_regex'"},
      {R"({"pre_tokenizer": "ByteLevel"})",
       "pre_tokenizer must be an object, is JSON string"},
      {R"({"decoder": {"type": null}})",
       "decoder: 'type' must be a string, is missing"},
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
       "post_processor: ids must be from 0 to 3, one is 99"},
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
