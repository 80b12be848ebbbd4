// What each architecture makes of its config's keys, held against the config
// classes of transformers (tests/golden/config_classes.json).

#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_replace.h"
#include "model/checkpoint/checkpoint.h"
#include "model/config_reader.h"
#include "model/loader/loader.h"
#include "model/registry.h"
#include "nlohmann/json.hpp"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using ::ounce::testing::GoldenCase;
using ::ounce::testing::GoldenCases;
using ::ounce::testing::LmRunner;
using ::ounce::testing::ReadGolden;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

json Classes() {
  return json::parse(std::ifstream("tests/golden/config_classes.json"));
}

const Architecture& Find(std::string_view name) {
  for (const Architecture* architecture : AllArchitectures()) {
    if (architecture->name == name) return *architecture;
  }
  OUNCE_CHECK(false, "an architecture of the list");
}

// Another checkpoint's weights under a config of its own.
class Reconfigured final : public Checkpoint {
 public:
  Reconfigured(const Checkpoint& base, json config)
      : base_(base), config_(std::move(config)) {}
  const std::string& folder() const override { return base_.folder(); }
  const json& config() const override { return config_; }
  const json& generation_config() const override { return none_; }
  const std::map<std::string, TensorInfo>& tensors() const override {
    return base_.tensors();
  }
  absl::Status ReadFloats(const std::string& name, int64_t first, int64_t count,
                          float* out) const override {
    return base_.ReadFloats(name, first, count, out);
  }

 private:
  const Checkpoint& base_;
  const json config_;
  const json none_;
};

// All that a config can change: the network's numbers, or why there is none.
struct Outcome {
  std::string status = {};
  int64_t positions = 0;
  std::vector<int32_t> eos_ids = {};
  std::vector<float> logits = {};
  bool operator==(const Outcome&) const = default;
};

// The last golden case of each decoder that does not lie in shards.
std::vector<GoldenCase> Families() {
  std::map<std::string, GoldenCase> last;
  for (const Architecture* architecture : AllArchitectures()) {
    for (const GoldenCase& c : GoldenCases()) {
      const std::string name(architecture->name);
      if (c.folder.find("/" + name + "/") == std::string::npos ||
          c.name.find("shards") != std::string::npos) {
        continue;
      }
      last[name] = {name, c.folder};
    }
  }
  std::vector<GoldenCase> families;
  for (const auto& [name, c] : last) families.push_back(c);
  return families;
}

class ConfigKeysTest : public ::testing::TestWithParam<GoldenCase> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(checkpoint_, Checkpoint::Open(GetParam().folder));
    class_ = Classes()["classes"][GetParam().name];
    ASSERT_TRUE(class_.is_object());
    config_ = checkpoint_->config();
    UseOwnNames();
    prompt_ = ReadGolden(GetParam().folder, config()["vocab_size"]).prompts[0];
  }

  // The case's, with the class's own names of keys.
  const json& config() const { return config_; }
  const Architecture& architecture() const { return Find(GetParam().name); }

  absl::Status Status(const json& config) const {
    return PlanModel(Reconfigured(*checkpoint_, config), {}).status();
  }

  Outcome Run(const json& config) const {
    const Reconfigured checkpoint(*checkpoint_, config);
    const auto loaded = LoadModel(checkpoint, {});
    if (!loaded.ok()) return {.status = std::string(loaded.status().message())};
    const CausalLm& lm = *loaded->model->causal_lm();
    LmRunner runner(lm, 1);
    return {.status = "",
            .positions = lm.shape().max_positions,
            .eos_ids = lm.shape().eos_ids,
            .logits = runner.AllLogits(prompt_,
                                       {static_cast<int64_t>(prompt_.size())})};
  }

  json With(const std::string& key, const json& value) const {
    json changed = config();
    changed[key] = value;
    return changed;
  }
  json Without(const std::string& key) const {
    json changed = config();
    changed.erase(key);
    return changed;
  }

  void UseOwnNames() {
    json aliases = class_["attribute_map"];
    if (config_.contains("n_embed")) aliases["n_embed"] = "hidden_size";
    for (const auto& [alias, key] : aliases.items()) {
      if (!config_.contains(alias)) continue;
      config_[key.get<std::string>()] = config_[alias];
      config_.erase(alias);
    }
  }

  std::unique_ptr<const Checkpoint> checkpoint_;
  json config_;
  json class_;
  std::vector<int32_t> prompt_;
};

TEST_P(ConfigKeysTest, AnAbsentKeyIsTheDefaultOfTheClass) {
  for (const auto& [key, value] : class_["parameters"].items()) {
    Outcome absent = Run(Without(key));
    // Messages may say that what they speak of is not in the file, or call it
    // by its other name.
    absent.status = absl::StrReplaceAll(
        absent.status,
        {{"absent, which stands for ", ""}, {"'n_embed'", "'hidden_size'"}});
    const Outcome given = Run(With(key, value));
    EXPECT_EQ(absent.status, given.status) << key;
    EXPECT_TRUE(absent == given) << key << " = " << value;
  }
}

TEST_P(ConfigKeysTest, KeysThatChangeNothingChangeNothing) {
  const Outcome usual = Run(config());
  ASSERT_EQ(usual.status, "");
  json changed = config();
  for (const auto& keys : {architecture().keys, CommonConfigKeys()}) {
    for (const ConfigKey& key : keys) {
      if (key.use == ConfigKey::Use::kUnused) {
        changed[std::string(key.name)] = "something else";
      }
    }
  }
  EXPECT_TRUE(Run(changed) == usual) << Run(changed).status;
}

TEST_P(ConfigKeysTest, AKeyThatMustHaveAValueRefusesOthersByName) {
  for (const auto& keys : {architecture().keys, CommonConfigKeys()}) {
    for (const ConfigKey& key : keys) {
      if (key.use != ConfigKey::Use::kMustBe) continue;
      const std::string name(key.name);
      EXPECT_THAT(
          Status(With(name, "something else")),
          StatusIs(absl::StatusCode::kUnimplemented,
                   AllOf(HasSubstr("config.json: '" + name + "' must be "),
                         HasSubstr("not supported"))));
      EXPECT_OK(Status(With(name, nullptr))) << name;
    }
  }
}

TEST_P(ConfigKeysTest, NumbersThatNoNetworkIsBuiltOfAreRefusedByName) {
  int numbers = 0;
  for (const ConfigKey& key : architecture().keys) {
    if (key.use != ConfigKey::Use::kRead) continue;
    const std::string name(key.name);
    const json absent = class_["parameters"].value(name, json());
    if (!absent.is_number() && !config().value(name, json()).is_number()) {
      continue;
    }
    ++numbers;
    for (const json& value : {json(-1), json(0), json(1e30), json("text")}) {
      // From the first layer on.
      if (name == "max_window_layers" && value == 0) continue;
      EXPECT_THAT(Status(With(name, value)),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           AllOf(HasSubstr("config.json: "),
                                 HasSubstr("'" + name + "'"))))
          << name << " = " << value;
    }
  }
  EXPECT_GE(numbers, 6);  // vocabulary, positions, width, layers, heads, ...
}

TEST_P(ConfigKeysTest, AKeyMayHaveItsOtherName) {
  const Outcome usual = Run(config());
  ASSERT_EQ(usual.status, "");
  for (const auto& [alias, of] : class_["attribute_map"].items()) {
    const std::string key = of;
    json renamed = Without(key);
    renamed[alias] = config()[key];
    EXPECT_TRUE(Run(renamed) == usual) << alias << Run(renamed).status;
    EXPECT_TRUE(Run(With(alias, config()[key])) == usual) << alias;
    EXPECT_THAT(Status(With(alias, config()[key].get<int64_t>() + 1)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("'" + key + "'"),
                               HasSubstr("'" + alias + "'"))));
  }
}

INSTANTIATE_TEST_SUITE_P(AllDecoders, ConfigKeysTest,
                         ::testing::ValuesIn(Families()),
                         [](const auto& info) { return info.param.name; });

TEST(ConfigKeys, FormsThatNoNetworkOrNoneOfOursHasAreRefused) {
  constexpr auto kWrong = absl::StatusCode::kInvalidArgument;
  constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;
  const struct {
    const char* family;
    json changes;
    absl::StatusCode code;
    const char* message;
  } cases[] = {
      {"llama",
       {{"num_attention_heads", 6}, {"num_key_value_heads", 4}},
       kWrong,
       "'num_attention_heads' must be a multiple of num_key_value_heads = 4"},
      {"llama", {{"head_dim", 5}}, kWrong, "the size of a head must be even"},
      {"llama",
       {{"num_attention_heads", 4096}, {"head_dim", 4096}},
       kWrong,
       "at most 262144 together, is 4096, each of 4096"},
      {"llama",
       {{"num_attention_heads", 65536}, {"head_dim", nullptr}},
       kWrong,
       "of heads that have 1 element or more"},
      {"llama",
       {{"rope_scaling", {{"rope_type", "longrope"}}}},
       kUnsupported,
       "longrope"},
      {"gpt2",
       {{"n_head", 7}},
       kWrong,
       "'n_embd' must be a multiple of n_head = 7"},
      {"gptj", {{"rotary_dim", 3}}, kWrong, "'rotary_dim' must be an even"},
      {"gpt_neox", {{"rotary_pct", 0.01}}, kWrong, "'rotary_pct'"},
      {"phi", {{"partial_rotary_factor", 0}}, kWrong, "partial_rotary_factor"},
      {"bloom",
       {{"seq_length", 1 << 20}, {"n_head", 1 << 8}, {"hidden_size", 1 << 8}},
       kWrong,
       "256 heads and 1048576 positions must be at most 4194304 biases"},
      {"falcon",
       {{"new_decoder_architecture", true}, {"parallel_attn", false}},
       kUnsupported,
       "'parallel_attn' must be true with new_decoder_architecture"},
      {"falcon",
       {{"new_decoder_architecture", false}, {"num_ln_in_parallel_attn", 2}},
       kUnsupported,
       "'num_ln_in_parallel_attn' must be 1 without"},
      {"falcon",
       {{"new_decoder_architecture", true}, {"num_kv_heads", 3}},
       kWrong,
       "a multiple of num_kv_heads = 3"},
      {"gpt_neo", {{"attention_types", "global"}}, kWrong, "attention_types"},
      {"gpt_neo",
       {{"attention_types", {{{"global", "far"}, 1}}}},
       kWrong,
       "attention_types"},
      {"gpt_neo",
       {{"attention_layers", {"local"}}},
       kWrong,
       "'attention_layers' must be what 'attention_types' says"},
      {"gpt_neox", {{"head_dim", 3}}, kUnsupported, "'head_dim' must be"},
      {"qwen2", {{"layer_types", {"full_attention"}}}, kWrong, "layer_types"},
      {"qwen3",
       {{"use_sliding_window", false},
        {"num_hidden_layers", 1},
        {"layer_types", {"sliding_attention"}}},
       kUnsupported,
       "'layer_types' must be of 'full_attention' alone"},
      {"phi3",
       {{"rope_scaling", {{"type", "longrope"}}}},
       kUnsupported,
       "'rope_scaling' must be null"},
      {"gemma",
       {{"rope_parameters", {{"partial_rotary_factor", 0.5}}}},
       kUnsupported,
       "'partial_rotary_factor' must be 1"},
      {"mistral", {{"hidden_act", "quick_gelu"}}, kUnsupported, "hidden_act"},
  };
  for (const auto& c : cases) {
    for (const GoldenCase& family : Families()) {
      if (family.name != c.family) continue;
      ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                           Checkpoint::Open(family.folder));
      json config = checkpoint->config();
      for (const auto& [key, value] : c.changes.items()) config[key] = value;
      // What BLOOM's golden has under other names.
      if (c.changes.contains("hidden_size")) config.erase("n_embed");
      if (c.changes.contains("n_head")) config.erase("num_attention_heads");
      EXPECT_THAT(PlanModel(Reconfigured(*checkpoint, config), {}),
                  StatusIs(c.code, AllOf(HasSubstr("config.json: "),
                                         HasSubstr(c.message))))
          << c.family << c.changes;
    }
  }
}

TEST(ConfigKeys, CodeThatTransformersHasTakenInIsNotNeeded) {
  for (const GoldenCase& family : Families()) {
    ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                         Checkpoint::Open(family.folder));
    json config = checkpoint->config();
    config["auto_map"] = {{"AutoModelForCausalLM", "modeling_own.Own"}};
    const absl::Status status =
        PlanModel(Reconfigured(*checkpoint, config), {}).status();
    const bool published = family.name == "falcon" || family.name == "phi" ||
                           family.name == "phi3";
    EXPECT_EQ(status.code(), published ? absl::StatusCode::kOk
                                       : absl::StatusCode::kUnimplemented)
        << family.name << status;
  }
}

TEST(ConfigKeys, EveryParameterOfTheClassIsDeclaredOnce) {
  const json golden = Classes();
  const auto names = [](absl::Span<const ConfigKey> keys) {
    std::set<std::string> found;
    for (const ConfigKey& key : keys) {
      EXPECT_TRUE(found.insert(std::string(key.name)).second) << key.name;
    }
    return found;
  };
  const std::set<std::string> common = names(CommonConfigKeys());
  for (const std::string key : golden["common"]) {
    // Each architecture says itself what becomes of it.
    if (key == "tie_word_embeddings") continue;
    EXPECT_TRUE(common.contains(key)) << key;
  }
  for (const Architecture* architecture : AllArchitectures()) {
    SCOPED_TRACE(architecture->name);
    EXPECT_NE(architecture->models, "");
    const std::set<std::string> own = names(architecture->keys);
    const json& of = golden["classes"][std::string(architecture->name)];
    for (const auto& [key, value] : of["parameters"].items()) {
      EXPECT_TRUE(own.contains(key) || common.contains(key)) << key;
    }
  }
}

}  // namespace
}  // namespace ounce::model
