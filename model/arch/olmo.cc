// OLMo (Groeneveld et al., 2024), as transformers' modeling_olmo.py has it: a
// Llama whose norms are LayerNorm without weights.

#include "model/arch/llama_like.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kMustBe = ConfigKey::Use::kMustBe;
constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of OlmoConfig.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"hidden_size"},
    {"intermediate_size"},
    {"num_hidden_layers"},
    {"num_attention_heads"},
    {"num_key_value_heads"},
    {"hidden_act"},
    {"max_position_embeddings"},
    {"rope_theta"},
    {"rope_scaling"},
    {"tie_word_embeddings"},
    {"attention_bias"},
    {"partial_rotary_factor", kMustBe, "1"},
    {"clip_qkv", kMustBe, "null"},
    {"attention_dropout", kUnused},
};

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  LlamaConfig config =
      ReadLlamaConfig(reader,
                      {.vocab_size = 50304,
                       .width = 4096,
                       .layers = 32,
                       .heads = 32,
                       .inner = 11008,
                       .activation = "silu",
                       .tied = false},
                      {.kv_heads = "num_key_value_heads", .epsilon = ""});
  config.norm = {.epsilon = 1e-5f, .weight = false, .bias = false};
  config.qkv_bias = config.out_bias = reader.Bool("attention_bias", false);
  config.eos_id = 50279;
  return MakeLlama("olmo", reader, config, checkpoint, compute, weights);
}

}  // namespace

const Architecture& Olmo() {
  static constexpr Architecture kArchitecture = {
      .name = "olmo",
      .models = "OLMo 1B and 7B (in transformers' form)",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
