// Config checking and the forward pass against a slow one in float64.

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/decoder/eos_ids.h"
#include "model/registry.h"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::LmRunner;
using ::ounce::testing::LoadWith;
using ::ounce::testing::MakeTinyCheckpoint;
using ::ounce::testing::MemoryCheckpoint;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TinyShape;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The formulas of the paper, one token after the other, in float64.
class SlowCodeGen {
 public:
  SlowCodeGen(MemoryCheckpoint& checkpoint, const TinyShape& shape)
      : checkpoint_(checkpoint), shape_(shape) {}

  // [tokens, vocab]
  std::vector<double> Logits(const std::vector<int32_t>& tokens) {
    const int64_t width = shape_.width, head_dim = width / shape_.heads;
    const int64_t count = tokens.size();
    std::vector<std::vector<double>> x;
    for (int32_t token : tokens) {
      const float* row = Data("transformer.wte.weight") + token * width;
      x.emplace_back(row, row + width);
    }
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      const std::string block = "transformer.h." + std::to_string(layer) + ".";
      std::vector<std::vector<double>> h, qkv;
      for (const auto& row : x) {
        h.push_back(Norm(row, block + "ln_1"));
        qkv.push_back(Linear(h.back(), block + "attn.qkv_proj", false));
      }
      // Where head `head`'s part lies: 0 query, 1 value, 2 key.
      const auto part = [&](int64_t t, int64_t head, int which) {
        const int64_t per_block = shape_.heads / 4;
        const double* start = qkv[t].data() +
                              head / per_block * 3 * (width / 4) +
                              which * (width / 4) + head % per_block * head_dim;
        std::vector<double> values(start, start + head_dim);
        if (which != 1) Turn(t, values);
        return values;
      };
      for (int64_t t = 0; t < count; ++t) {
        std::vector<double> mixed(width);
        for (int64_t head = 0; head < shape_.heads; ++head) {
          const auto query = part(t, head, 0);
          std::vector<double> weights(t + 1);
          double sum = 0;
          for (int64_t s = 0; s <= t; ++s) {
            const auto key = part(s, head, 2);
            double score = 0;
            for (int64_t d = 0; d < head_dim; ++d) score += query[d] * key[d];
            weights[s] = std::exp(score / std::sqrt(double(head_dim)));
            sum += weights[s];
          }
          for (int64_t s = 0; s <= t; ++s) {
            const auto value = part(s, head, 1);
            for (int64_t d = 0; d < head_dim; ++d) {
              mixed[head * head_dim + d] += weights[s] / sum * value[d];
            }
          }
        }
        auto inner = Linear(h[t], block + "mlp.fc_in", true);
        for (double& v : inner) {
          v = 0.5 * v *
              (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
        }
        const auto attention = Linear(mixed, block + "attn.out_proj", false);
        const auto mlp = Linear(inner, block + "mlp.fc_out", true);
        for (int64_t i = 0; i < width; ++i) x[t][i] += attention[i] + mlp[i];
      }
    }
    std::vector<double> logits;
    for (const auto& row : x) {
      const auto out =
          Linear(Norm(row, "transformer.ln_f"),
                 shape_.tied ? "transformer.wte" : "lm_head", false);
      const float* bias = Data("lm_head.bias");
      for (size_t i = 0; i < out.size(); ++i)
        logits.push_back(out[i] + bias[i]);
    }
    return logits;
  }

 private:
  const float* Data(const std::string& name) {
    return checkpoint_.values(name).data();
  }
  std::vector<double> Norm(const std::vector<double>& x,
                           const std::string& name) {
    double mean = 0, variance = 0;
    for (double v : x) mean += v / x.size();
    for (double v : x) variance += (v - mean) * (v - mean) / x.size();
    std::vector<double> y;
    for (size_t i = 0; i < x.size(); ++i) {
      y.push_back((x[i] - mean) / std::sqrt(variance + 1e-5) *
                      Data(name + ".weight")[i] +
                  Data(name + ".bias")[i]);
    }
    return y;
  }
  std::vector<double> Linear(const std::vector<double>& x,
                             const std::string& name, bool bias) {
    const auto& weight = checkpoint_.values(name + ".weight");
    std::vector<double> y(weight.size() / x.size());
    for (size_t i = 0; i < y.size(); ++i) {
      for (size_t k = 0; k < x.size(); ++k)
        y[i] += x[k] * weight[i * x.size() + k];
      if (bias) y[i] += Data(name + ".bias")[i];
    }
    return y;
  }
  void Turn(int64_t position, std::vector<double>& head) {
    for (int64_t i = 0; i < shape_.rotary_dim; i += 2) {
      const double angle =
          position * std::pow(10000.0, -double(i) / shape_.rotary_dim);
      const double even = head[i], odd = head[i + 1];
      head[i] = even * std::cos(angle) - odd * std::sin(angle);
      head[i + 1] = odd * std::cos(angle) + even * std::sin(angle);
    }
  }

  MemoryCheckpoint& checkpoint_;
  const TinyShape shape_;
};

TEST(CodeGenTest, MeetsTheFormulasAtOddShapes) {
  const TinyShape shapes[] = {
      {.vocab = 17, .width = 12, .heads = 4, .rotary_dim = 2, .inner = 5},
      {.vocab = 33,
       .width = 72,
       .layers = 1,
       .heads = 8,
       .rotary_dim = 8,
       .inner = 65,
       .tied = true},
      {.vocab = 20,
       .width = 148,
       .layers = 1,
       .heads = 4,
       .rotary_dim = 36,
       .inner = 64}};
  std::vector<int32_t> tokens;
  for (int i = 0; i < 40; ++i) tokens.push_back(i * 7 % 17);
  for (const TinyShape& shape : shapes) {
    const auto checkpoint = MakeTinyCheckpoint(shape);
    const auto loaded = LoadWith(*checkpoint, "");
    LmRunner runner(*loaded.model->causal_lm(), 1);
    const auto found = runner.AllLogits(tokens, {40});
    const auto wanted = SlowCodeGen(*checkpoint, shape).Logits(tokens);
    ASSERT_EQ(found.size(), wanted.size());
    double worst = 0, largest = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_TRUE(std::isfinite(found[i]));
      worst = std::max(worst, std::abs(found[i] - wanted[i]));
      largest = std::max(largest, std::abs(wanted[i]));
    }
    // Float32 sums of some hundred terms, through one or two blocks.
    EXPECT_LT(worst, 1e-5 * largest) << "width " << shape.width;
  }
}

TEST(CodeGenTest, RefusesConfigsItCannotRun) {
  const struct {
    const char* key;
    nlohmann::json value;
    absl::StatusCode code;
    const char* message;
  } cases[] = {
      {"n_head", 3, absl::StatusCode::kInvalidArgument, "a multiple of 4"},
      {"n_head", 0, absl::StatusCode::kInvalidArgument, "n_head"},
      {"n_head", 12, absl::StatusCode::kInvalidArgument, "multiple of n_head"},
      {"n_embd", -32, absl::StatusCode::kInvalidArgument, "n_embd"},
      {"n_embd", 1 << 20, absl::StatusCode::kInvalidArgument, "n_embd"},
      {"n_layer", "two", absl::StatusCode::kInvalidArgument, "n_layer"},
      {"n_layer", 1e300, absl::StatusCode::kInvalidArgument, "n_layer"},
      {"vocab_size", nullptr, absl::StatusCode::kInvalidArgument,
       "'vocab_size' must not be null"},
      {"hidden_size", 64, absl::StatusCode::kInvalidArgument,
       "'n_embd' and 'hidden_size' are two names of one number, but are 32 and "
       "64"},
      {"head_dim", 8, absl::StatusCode::kUnimplemented,
       "'head_dim' is a key of codegen2"},
      {"auto_map",
       {{"AutoConfig", "configuration_codegen.CodeGenConfig"},
        {"AutoModelForCausalLM", "modeling_codegen.CodeGenForCausalLM"}},
       absl::StatusCode::kUnimplemented,
       "'auto_map' says that AutoModelForCausalLM is code of the checkpoint's "
       "own, as codegen2"},
      {"pruned_heads",
       {{"0", {1}}},
       absl::StatusCode::kUnimplemented,
       "pruned_heads"},
      {"activation_function", nullptr, absl::StatusCode::kInvalidArgument,
       "'activation_function' must not be null"},
      {"layer_norm_epsilon", nullptr, absl::StatusCode::kInvalidArgument,
       "'layer_norm_epsilon' must not be null"},
      {"rotary_dim", 0, absl::StatusCode::kInvalidArgument, "rotary_dim"},
      {"n_positions", int64_t{1} << 40, absl::StatusCode::kInvalidArgument,
       "n_positions"},
      {"rotary_dim", 3, absl::StatusCode::kInvalidArgument, "rotary_dim"},
      {"rotary_dim", 10, absl::StatusCode::kInvalidArgument, "rotary_dim"},
      {"n_inner", 0, absl::StatusCode::kInvalidArgument, "n_inner"},
      {"activation_function", "quick_gelu", absl::StatusCode::kUnimplemented,
       "'activation_function' must be one of 'relu', 'gelu',"},
      {"layer_norm_epsilon", 0, absl::StatusCode::kInvalidArgument,
       "layer_norm_epsilon"},
      {"eos_token_id", "end", absl::StatusCode::kInvalidArgument,
       "eos_token_id"},
      {"eos_token_id",
       {1, "two"},
       absl::StatusCode::kInvalidArgument,
       "eos_token_id"},
      {"model_type", "t5", absl::StatusCode::kUnimplemented,
       "'model_type' must be one of bloom, codegen, detr, falcon, "},
      {"model_type", "t5", absl::StatusCode::kUnimplemented, ", is 't5'"},
      {"model_type", nullptr, absl::StatusCode::kInvalidArgument, "model_type"},
  };
  for (const auto& c : cases) {
    const auto checkpoint = MakeTinyCheckpoint({});
    checkpoint->config_json[c.key] = c.value;
    EXPECT_THAT(
        LoadModel(*checkpoint, {}),
        StatusIs(c.code, AllOf(HasSubstr("config.json"), HasSubstr(c.message))))
        << c.key << " = " << c.value;
  }
}

TEST(CodeGenTest, NamesTheTensorThatIsMissingOrOfAnotherShape) {
  const auto checkpoint = MakeTinyCheckpoint({});
  checkpoint->Add("transformer.h.1.mlp.fc_in.weight", {64, 32},
                  std::vector<float>(64 * 32));
  EXPECT_THAT(
      LoadModel(*checkpoint, {}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("'transformer.h.1.mlp.fc_in.weight'"),
                     HasSubstr("must be of shape [128, 32], is of [64, 32]"))));
  checkpoint->Remove("transformer.h.1.mlp.fc_in.weight");
  EXPECT_THAT(
      LoadModel(*checkpoint, {}),
      StatusIs(
          absl::StatusCode::kInvalidArgument,
          HasSubstr("'transformer.h.1.mlp.fc_in.weight' of shape [128, 32] "
                    "is missing")));
}

TEST(CodeGenTest, AnAbsentRotaryDimIs64) {
  const auto checkpoint = MakeTinyCheckpoint({});
  checkpoint->config_json.erase("rotary_dim");
  EXPECT_THAT(LoadModel(*checkpoint, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'rotary_dim' must be at most the size of a "
                                 "head, n_embd / n_head = 8, is absent, which "
                                 "stands for 64")));
}

TEST(CodeGenTest, NullsAndAbsentKeysGiveTheSameNumbers) {
  const auto checkpoint = MakeTinyCheckpoint({.rotary_dim = 8});
  checkpoint->config_json["n_inner"] = nullptr;     // 4 * n_embd
  checkpoint->config_json["rotary_dim"] = nullptr;  // the whole head
  for (const char* key :
       {"activation_function", "layer_norm_epsilon", "tie_word_embeddings"}) {
    checkpoint->config_json.erase(key);
  }
  const auto loaded = LoadWith(*checkpoint, "");
  const TinyShape same = {.rotary_dim = 8};
  LmRunner runner(*loaded.model->causal_lm(), 1);
  LmRunner::Sequence sequence;
  const auto found = runner.Step({{&sequence, {1, 2, 3}, 1}});
  const auto wanted = SlowCodeGen(*checkpoint, same).Logits({1, 2, 3});
  EXPECT_NEAR(found[7], wanted[2 * same.vocab + 7], 1e-4);
}

TEST(CodeGenTest, BuffersOfOldReleasesAreIgnored) {
  const auto checkpoint = MakeTinyCheckpoint({});
  for (const char* name : {"causal_mask", "masked_bias", "bias"}) {
    checkpoint->Add("transformer.h.1.attn." + std::string(name), {1}, {0});
  }
  EXPECT_OK(LoadModel(*checkpoint, {}));
}

TEST(CodeGenTest, EosIdsComeFromTheGenerationConfigFirst) {
  const auto eos = [](MemoryCheckpoint& checkpoint) {
    return LoadWith(checkpoint, "").model->causal_lm()->shape().eos_ids;
  };
  const auto checkpoint = MakeTinyCheckpoint({});
  EXPECT_THAT(eos(*checkpoint), IsEmpty());  // 50256 is past the vocabulary
  checkpoint->config_json["eos_token_id"] = 4;
  EXPECT_THAT(eos(*checkpoint), ElementsAre(4));
  checkpoint->generation_json = {{"eos_token_id", nullptr}};
  EXPECT_THAT(eos(*checkpoint), ElementsAre(4));
  checkpoint->generation_json = {{"eos_token_id", {5, 6}}};
  EXPECT_THAT(eos(*checkpoint), ElementsAre(5, 6));
  checkpoint->generation_json = {
      {"eos_token_id", 50256}};  // past the vocabulary
  EXPECT_THAT(eos(*checkpoint), IsEmpty());
}

TEST(CodeGenTest, IdsThatNoTokenHasEndNothing) {
  const nlohmann::json none[] = {-1, nullptr, nlohmann::json::array(), {-1}};
  for (const nlohmann::json& ids : none) {
    EXPECT_THAT(*ReadEosIds({{"eos_token_id", ids}}, 100, {7}), IsEmpty())
        << ids;
  }
  EXPECT_THAT(
      *ReadEosIds({{"eos_token_id", {3, -1, nullptr, 100, 99}}}, 100, {}),
      ElementsAre(3, 99));
  EXPECT_THAT(*ReadEosIds(nlohmann::json::object(), 100, {7}), ElementsAre(7));
}

// As transformers has it: the token of that row spoils its own sequence alone.
TEST(CodeGenTest, AnEmbeddingThatIsNoNumberHarmsNobodyElse) {
  const auto checkpoint = MakeTinyCheckpoint({});
  const auto broken = MakeTinyCheckpoint({});
  broken->values("transformer.wte.weight")[9 * 32 + 3] = NAN;
  broken->values("lm_head.bias")[8] = -INFINITY;
  for (const char* spec : {"", "linear"}) {
    std::vector<std::vector<float>> logits;
    for (const auto* source : {&checkpoint, &broken}) {
      const auto loaded = LoadWith(**source, spec);
      LmRunner runner(*loaded.model->causal_lm(), 1);
      LmRunner::Sequence good, bad;
      logits.push_back(runner.Step({{&good, {1, 2, 3}, 1}, {&bad, {9, 2}, 1}}));
    }
    for (int i = 0; i < 50; ++i) {
      if (i == 8) {
        EXPECT_EQ(logits[1][i], -INFINITY);
      } else {
        EXPECT_EQ(logits[0][i], logits[1][i]) << spec << i;
      }
    }
  }
}

TEST(CodeGenTest, ATiedHeadIsTheEmbeddingAndCountsOnce) {
  const auto tied = MakeTinyCheckpoint({.tied = true});
  const auto untied = MakeTinyCheckpoint({.tied = true});
  untied->config_json["tie_word_embeddings"] = false;
  untied->Add("lm_head.weight", {50, 32},
              tied->values("transformer.wte.weight"));
  const auto shared = MakeTinyCheckpoint({.tied = true});
  shared->config_json["tie_word_embeddings"] = false;
  shared->Tie("lm_head.weight", "transformer.wte.weight");

  std::vector<std::vector<float>> logits;
  std::vector<int64_t> stored;
  for (const auto* checkpoint : {&tied, &untied, &shared}) {
    const auto loaded = LoadWith(**checkpoint, "");
    LmRunner runner(*loaded.model->causal_lm(), 1);
    logits.push_back(runner.AllLogits({1, 2, 3, 4}, {4}));
    stored.push_back(loaded.report.stored_bytes);
  }
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_EQ(logits[0], logits[2]);
  EXPECT_EQ(stored[1] - stored[0], 50 * 32 * 4);
  EXPECT_EQ(stored[2], stored[0]);
}

TEST(RegistryTest, EveryArchitectureHasGoldens) {
  for (const Architecture* architecture : AllArchitectures()) {
    const std::string name(architecture->name);
    EXPECT_TRUE(std::filesystem::is_directory("tests/golden/" + name) ||
                std::filesystem::is_directory("tests/golden/decoder/" + name))
        << name;
  }
}

}  // namespace
}  // namespace ounce::model
