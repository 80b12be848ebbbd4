// Trained models, from their folders, against transformers. Expected by
// tools/make_published_goldens.py.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "model/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"
#include "quant/registry.h"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::LmRunner;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Where `./run smollm2` puts it.
std::string DefaultSmolLm2Folder() {
  std::string cache = Environment("OUNCE_DEPS");
  if (cache.empty()) {
    cache = Environment("XDG_CACHE_HOME");
    if (cache.empty()) cache = Environment("HOME") + "/.cache";
    cache += "/ounce";
  }
  return cache + "/smollm2";
}

struct Published {
  std::string name;  // a folder of tests/golden
  std::string folder;
  std::string remedy;  // if the folder is not there
};
void PrintTo(const Published& published, std::ostream* out) {
  *out << published.name;
}

std::vector<Published> All() {
  const std::string shared = Environment("OUNCE_SHARED_DATA");
  const std::string smollm2 = Environment("OUNCE_SMOLLM2");
  return {{"tinystories",
           (shared.empty() ? "../shared/data" : shared) + "/tinystories-656k",
           "OUNCE_SHARED_DATA names its parent"},
          {"smollm2", smollm2.empty() ? DefaultSmolLm2Folder() : smollm2,
           "./run smollm2 makes it; OUNCE_SMOLLM2 names another"}};
}

class PublishedTest : public ::testing::TestWithParam<Published> {
 protected:
  void SetUp() override {
    const std::string& folder = GetParam().folder;
    if (!std::filesystem::exists(folder + "/config.json")) {
      GTEST_SKIP() << folder << " is absent; " << GetParam().remedy;
    }
    std::ifstream file(
        StrCat("tests/golden/", GetParam().name, "/expected.json"));
    cases_ = nlohmann::json::parse(file)["cases"];
    ASSERT_FALSE(cases_.empty());
  }

  nlohmann::json cases_;
};

TEST_P(PublishedTest, GreedyTokensAreThoseOfTransformers) {
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(GetParam().folder));
  LoadOptions options;
  ASSERT_OK_AND_ASSIGN(options.plan, ParseMethodPlan("float32"));
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       LoadModel(*checkpoint, options));
  LmRunner runner(*loaded.model->causal_lm(), 2);
  for (const auto& c : cases_) {
    const auto wanted = c["greedy"].get<std::vector<int32_t>>();
    EXPECT_EQ(runner.Greedy(c["ids"].get<std::vector<int32_t>>(),
                            static_cast<int>(wanted.size())),
              wanted)
        << c["prompt"];
  }
}

TEST_P(PublishedTest, TextsAndIdsAreThoseOfTransformers) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       Tokenizer::Load(GetParam().folder));
  for (const auto& c : cases_) {
    ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids,
                         tokenizer->Encode(c["prompt"].get<std::string>()));
    EXPECT_EQ(ids, c["ids"].get<std::vector<int32_t>>());
    EXPECT_EQ(tokenizer->Decode(c["greedy"].get<std::vector<int32_t>>(),
                                /*skip_special=*/false),
              c["text"].get<std::string>());
  }
}

INSTANTIATE_TEST_SUITE_P(All, PublishedTest, ::testing::ValuesIn(All()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace ounce::model
