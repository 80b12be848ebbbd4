// Gemma 2 (Gemma Team, 2024), as transformers' modeling_gemma2.py has it: a
// Gemma that norms what each layer adds too, caps scores and logits, and has a
// window in every other layer.

#include <cmath>

#include "model/arch/llama_like.h"
#include "model/registry.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

constexpr auto kMustBe = ConfigKey::Use::kMustBe;
constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of Gemma2Config.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"hidden_size"},
    {"intermediate_size"},
    {"num_hidden_layers"},
    {"num_attention_heads"},
    {"num_key_value_heads"},
    {"head_dim"},
    {"hidden_activation"},
    {"max_position_embeddings"},
    {"rms_norm_eps"},
    {"rope_theta"},
    {"rope_scaling"},
    {"tie_word_embeddings"},
    {"attention_bias"},
    {"query_pre_attn_scalar"},
    {"sliding_window"},
    {"layer_types"},
    {"final_logit_softcapping"},
    {"attn_logit_softcapping"},
    {"partial_rotary_factor", kMustBe, "1"},
    {"attention_dropout", kUnused},
};

// null is none.
float ReadCap(ConfigReader& reader, const char* key, double absent) {
  const nlohmann::json& config = reader.json();
  if (config.contains(key) && config[key].is_null()) return 0;
  return reader.Number(key, 1e-3, 1e6, absent);
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  SizeKeys keys = kLlamaKeys;
  keys.activation = "hidden_activation";
  LlamaConfig config = ReadLlamaConfig(reader,
                                       {.vocab_size = 256000,
                                        .positions = 8192,
                                        .width = 2304,
                                        .layers = 26,
                                        .heads = 8,
                                        .kv_heads = 4,
                                        .head_dim = 256,
                                        .inner = 9216,
                                        .activation = "gelu_pytorch_tanh",
                                        .epsilon = 1e-6},
                                       keys);
  config.norm.plus_one = true;
  config.out_norms = true;
  config.qkv_bias = config.out_bias = reader.Bool("attention_bias", false);
  config.embedding_scale = std::sqrt(static_cast<float>(config.sizes.width));
  config.sizes.score_divisor =
      std::sqrt(reader.Number("query_pre_attn_scalar", 1e-3, 1e6, 256));
  config.score_soft_cap = ReadCap(reader, "attn_logit_softcapping", 50);
  config.logit_soft_cap = ReadCap(reader, "final_logit_softcapping", 30);
  const int64_t window = reader.Int("sliding_window", 1, kMaxPositions, 4096);
  config.windows.resize(config.sizes.layers, 0);
  for (int64_t i = 0; i < config.sizes.layers; i += 2) {
    config.windows[i] = window;
  }
  ReadLayerTypes(reader, window, config.windows);
  config.eos_id = 1;
  return MakeLlama("gemma2", reader, config, checkpoint, compute, weights);
}

}  // namespace

const Architecture& Gemma2() {
  static constexpr Architecture kArchitecture = {
      .name = "gemma2", .models = "Gemma 2", .keys = kKeys, .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
