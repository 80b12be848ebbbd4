// Names and left-overs of published checkpoints, tried on every golden one:
// with the body's prefix and without, buffers of old releases, a head beside a
// tied embedding, a classifier's head. And that the golden ones have all names
// in all forms of files.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "nlohmann/json.hpp"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::GoldenCase;
using ::ounce::testing::GoldenCases;
using ::ounce::testing::LmRunner;
using ::ounce::testing::MemoryCheckpoint;
using ::ounce::testing::ReadGolden;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

// transformers' base_model_prefix.
std::string PrefixOf(const std::string& family) {
  std::ifstream file("tests/golden/config_classes.json");
  return nlohmann::json::parse(file)["classes"][family]["prefix"];
}

bool IsHead(const std::string& name) {
  return absl::StartsWith(name, "lm_head.") ||
         absl::StartsWith(name, "embed_out.");
}

class PublishedNamesTest : public ::testing::TestWithParam<GoldenCase> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(const auto golden,
                         Checkpoint::Open(GetParam().folder));
    family_ = golden->config()["model_type"];
    checkpoint_.config_json = golden->config();
    for (const auto& [name, info] : golden->tensors()) {
      int64_t count = 1;
      for (const int64_t size : info.shape) count *= size;
      if (info.shape.empty()) continue;  // a buffer
      std::vector<float> values(count);
      if (golden->ReadFloats(name, 0, count, values.data()).ok()) {
        checkpoint_.Add(name, info.shape, values);
      }
    }
    prompt_ = ReadGolden(GetParam().folder, golden->config()["vocab_size"])
                  .prompts[0];
    usual_ = Logits(checkpoint_);
    ASSERT_FALSE(usual_.empty());
  }

  std::vector<float> Logits(const Checkpoint& checkpoint) const {
    const auto loaded = LoadModel(checkpoint, {});
    EXPECT_OK(loaded.status());
    if (!loaded.ok()) return {};
    LmRunner runner(*loaded->model->causal_lm(), 1);
    return runner.AllLogits(prompt_, {static_cast<int64_t>(prompt_.size())});
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& [name, info] : checkpoint_.tensors()) {
      names.push_back(name);
    }
    return names;
  }
  void Rename(const std::string& name, const std::string& as) {
    if (name == as) return;
    const auto shape = checkpoint_.tensors().at(name).shape;
    const std::vector<float> values = checkpoint_.values(name);
    checkpoint_.Remove(name);
    checkpoint_.Add(as, shape, values);
  }

  bool StoresNoHead() const {
    const auto names = Names();
    return std::none_of(names.begin(), names.end(), IsHead);
  }
  std::string HeadName() const {
    return family_ == "gpt_neox" ? "embed_out.weight" : "lm_head.weight";
  }
  std::string EmbeddingName() const {
    for (const std::string& name : Names()) {
      for (const char* end : {"wte.weight", "embed_tokens.weight",
                              "word_embeddings.weight", "embed_in.weight"}) {
        if (absl::EndsWith(name, end)) return name;
      }
    }
    return "";
  }

  std::string family_;
  MemoryCheckpoint checkpoint_;
  std::vector<int32_t> prompt_;
  std::vector<float> usual_;
};

TEST_P(PublishedNamesTest, TheBodyMayHaveItsPrefixOrNone) {
  const std::string prefix = PrefixOf(family_);
  for (const bool prefixed : {true, false}) {
    for (const std::string& name : Names()) {
      if (IsHead(name)) continue;
      const std::string bare(absl::StripPrefix(name, prefix));
      Rename(name, prefixed ? prefix + bare : bare);
    }
    EXPECT_EQ(Logits(checkpoint_), usual_) << prefixed;
  }
}

TEST_P(PublishedNamesTest, BuffersOfOldReleasesAreNotNeeded) {
  if (family_ == "opt" || family_ == "falcon" || family_ == "bloom") {
    return;  // never stored any
  }
  int added = 0;
  for (const std::string& name : Names()) {
    for (const std::string module : {".attn.", ".attention.", ".self_attn."}) {
      const size_t found = name.find(module);
      if (found == std::string::npos) continue;
      const std::string attention = name.substr(0, found + module.size());
      checkpoint_.Add(attention + "rotary_emb.inv_freq", {4}, {1, 2, 3, 4});
      ++added;
      if (module == ".self_attn.") continue;
      checkpoint_.Add(attention + "masked_bias", {1}, {-1e9f});
      checkpoint_.Add(attention + "bias", {1, 1, 2, 2}, {1, 0, 1, 1});
    }
  }
  EXPECT_GT(added, 0);
  EXPECT_EQ(Logits(checkpoint_), usual_);
}

TEST_P(PublishedNamesTest, AHeadBesideATiedEmbeddingMustEqualIt) {
  if (!StoresNoHead()) return;
  const std::string embedding = EmbeddingName();
  const auto shape = checkpoint_.tensors().at(embedding).shape;
  checkpoint_.Add(HeadName(), shape, checkpoint_.values(embedding));
  EXPECT_EQ(Logits(checkpoint_), usual_);
  checkpoint_.values(HeadName())[5] += 1;
  EXPECT_THAT(
      LoadModel(checkpoint_, {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(HeadName())));
}

TEST_P(PublishedNamesTest, AClassifiersHeadIsReportedOrMissesTheLanguages) {
  const int64_t width = checkpoint_.tensors().at(EmbeddingName()).shape[1];
  checkpoint_.Add("score.weight", {2, width}, std::vector<float>(2 * width));
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded, LoadModel(checkpoint_, {}));
  const auto& tensors = loaded.report.tensors;
  EXPECT_TRUE(std::any_of(tensors.begin(), tensors.end(), [](const auto& t) {
    return t.name == "score.weight" &&
           t.left_alone == "not used: the architecture does not know it";
  }));
  if (checkpoint_.config_json.value("tie_word_embeddings", true)) return;
  checkpoint_.Remove(HeadName());
  EXPECT_THAT(LoadModel(checkpoint_, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(HeadName()),
                             HasSubstr("saved without its head"))));
}

INSTANTIATE_TEST_SUITE_P(AllCases, PublishedNamesTest,
                         ::testing::ValuesIn(GoldenCases()),
                         [](const auto& info) { return info.param.name; });

// "transformer.h.0" of "transformer.h.0.attn.c_attn.weight"; else "".
std::string LayerOf(const std::string& name) {
  for (size_t dot = name.find('.'); dot != std::string::npos;) {
    const size_t next = name.find('.', dot + 1);
    if (absl::ascii_isdigit(name[dot + 1])) return name.substr(0, next);
    dot = next;
  }
  return "";
}

constexpr const char* kForms[] = {
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
    "pytorch_model.bin.index.json"};

TEST(GoldenFilesTest, HaveEveryNamingOfALayersMatricesInEveryForm) {
  std::map<std::set<std::string>, std::set<std::string>> forms_of;
  for (const GoldenCase& c : GoldenCases()) {
    ASSERT_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(c.folder));
    std::set<std::string> names;
    for (const auto& [name, info] : checkpoint->tensors()) {
      if (info.shape.size() == 2 && absl::EndsWith(LayerOf(name), ".0")) {
        names.insert(name);
      }
    }
    for (const std::string form : kForms) {
      if (std::filesystem::exists(c.folder + "/" + form)) {
        forms_of[names].insert(form);
      }
    }
  }
  for (const auto& [names, forms] : forms_of) {
    EXPECT_THAT(forms, ::testing::UnorderedElementsAreArray(kForms))
        << ::testing::PrintToString(names);
  }
}

TEST(GoldenFilesTest, AreCutIntoShardsInsideALayer) {
  for (const GoldenCase& c : GoldenCases()) {
    for (const std::string form : kForms) {
      std::ifstream file(c.folder + "/" + form);
      if (!absl::EndsWith(form, ".json") || !file.good()) continue;
      const auto index = nlohmann::json::parse(file);
      std::map<std::string, std::set<std::string>> files_of;
      for (const auto& [name, shard] : index["weight_map"].items()) {
        if (!LayerOf(name).empty()) files_of[LayerOf(name)].insert(shard);
      }
      EXPECT_TRUE(std::any_of(files_of.begin(), files_of.end(), [](auto& of) {
        return of.second.size() > 1;
      })) << c.name;
    }
  }
}

}  // namespace
}  // namespace ounce::model
