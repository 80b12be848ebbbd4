// Tokenizers of GGUF files against llama.cpp's, and what is wrong with them
// when it is. Fixtures are those of tools/make_gguf_model_goldens.py.

#include "model/tokenizer/gguf_tokenizer.h"

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "model/files/gguf_file.h"
#include "nlohmann/json.hpp"
#include "tests/testing/quantized_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using ::ounce::testing::QuantizedFixture;
using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

std::vector<QuantizedFixture> GgufFixtures() {
  std::vector<QuantizedFixture> fixtures;
  for (const QuantizedFixture& one : ounce::testing::QuantizedFixtures()) {
    if (one.is_gguf()) fixtures.push_back(one);
  }
  return fixtures;
}

// The file with the metadata: of a split one the first.
std::string FirstFile(const QuantizedFixture& fixture) {
  std::string path = fixture.location;
  const size_t number = path.rfind("-of-");
  if (number != std::string::npos) path.replace(number - 5, 5, "00001");
  return path;
}

class GgufTokenizerTest : public ::testing::TestWithParam<QuantizedFixture> {};

TEST_P(GgufTokenizerTest, IdsAreThoseOfLlamaCpp) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       Tokenizer::Load(FirstFile(GetParam())));
  std::ifstream file(GetParam().folder + "/expected.json");
  const json texts = json::parse(file)["texts"];
  ASSERT_FALSE(texts.empty());
  for (const json& text : texts) {
    ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids,
                         tokenizer->Encode(text[0].get<std::string>()));
    EXPECT_EQ(ids, text[1].get<std::vector<int32_t>>()) << text[0];
  }
}

INSTANTIATE_TEST_SUITE_P(All, GgufTokenizerTest,
                         ::testing::ValuesIn(GgufFixtures()),
                         [](const auto& info) { return info.param.name; });

json MetadataOf(const std::string& path) {
  const auto file = *OpenFile(path);
  return ReadGguf(*file, [](std::string_view) { return true; })->metadata;
}

TEST(GgufTokenizerJsonTest, NamesWhatIsMissingMalformedOrNotSupported) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
  struct Fault {
    const char* key;
    json value;  // discarded: the key is taken away
    absl::StatusCode code;
    const char* message;
  };
  const json none = json(json::value_t::discarded);
  const Fault faults[] = {
      {"tokenizer.ggml.model", none, absl::StatusCode::kNotFound,
       "has no tokenizer"},
      {"tokenizer.ggml.model", "bert", kUnimplemented,
       "must be gpt2 or llama, is 'bert'"},
      {"tokenizer.ggml.pre", "tekken", kUnimplemented,
       "'tokenizer.ggml.pre' must be one of gpt-2, phi-2, "},
      {"tokenizer.ggml.pre", none, kUnimplemented,
       "is missing: convert the model again"},
      {"tokenizer.ggml.tokens", none, kInvalid,
       "no key 'tokenizer.ggml.tokens'"},
      {"tokenizer.ggml.tokens", "x", kInvalid, "must be an array"},
      {"tokenizer.ggml.tokens", json::array(), kInvalid, "must have 1 to"},
      {"tokenizer.ggml.tokens", json::array({"a", "a"}), kInvalid,
       "must have 2 elements, one for each token"},
      {"tokenizer.ggml.token_type", json::array({1}), kInvalid,
       "'tokenizer.ggml.token_type' must have"},
      {"tokenizer.ggml.merges", none, kInvalid,
       "no key 'tokenizer.ggml.merges'"},
  };
  const json whole = MetadataOf("tests/golden/gguf_models/qwen2/model.gguf");
  ASSERT_OK(GgufTokenizerJson(whole));
  for (const Fault& fault : faults) {
    json metadata = whole;
    if (fault.value.is_discarded()) {
      metadata.erase(fault.key);
    } else {
      metadata[fault.key] = fault.value;
    }
    EXPECT_THAT(GgufTokenizerJson(metadata),
                StatusIs(fault.code, HasSubstr(fault.message)))
        << fault.key << " = " << fault.value;
  }
}

TEST(GgufTokenizerJsonTest, OldFilesOfOldArchitecturesAreCutAsGpt2Was) {
  json metadata = MetadataOf("tests/golden/gguf_models/gpt2/model.gguf");
  ASSERT_OK_AND_ASSIGN(const json named, GgufTokenizerJson(metadata));
  metadata.erase("tokenizer.ggml.pre");
  ASSERT_OK_AND_ASSIGN(const json unnamed, GgufTokenizerJson(metadata));
  EXPECT_EQ(named, unnamed);
}

}  // namespace
}  // namespace ounce::model
