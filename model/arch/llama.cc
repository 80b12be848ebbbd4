// Llama (Touvron et al., 2023), as transformers' modeling_llama.py has it; see
// llama_like.h.

#include "model/arch/llama_like.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kMustBe = ConfigKey::Use::kMustBe;
constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of LlamaConfig.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"hidden_size"},
    {"intermediate_size"},
    {"num_hidden_layers"},
    {"num_attention_heads"},
    {"num_key_value_heads"},
    {"head_dim"},
    {"hidden_act"},
    {"max_position_embeddings"},
    {"rms_norm_eps"},
    {"rope_theta"},
    {"rope_scaling"},
    {"tie_word_embeddings"},
    {"attention_bias"},
    {"mlp_bias"},
    {"partial_rotary_factor", kMustBe, "1"},
    // Slices of tensor parallelism: the same sums in another order.
    {"pretraining_tp", kUnused},
    {"attention_dropout", kUnused},
};

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  LlamaConfig config = ReadLlamaConfig(reader, {.vocab_size = 32000,
                                                .width = 4096,
                                                .layers = 32,
                                                .heads = 32,
                                                .inner = 11008,
                                                .activation = "silu",
                                                .epsilon = 1e-6,
                                                .tied = false});
  config.qkv_bias = config.out_bias = reader.Bool("attention_bias", false);
  config.mlp_bias = reader.Bool("mlp_bias", false);
  return MakeLlama("llama", reader, config, checkpoint, compute, weights);
}

}  // namespace

const Architecture& Llama() {
  static constexpr Architecture kArchitecture = {
      .name = "llama",
      .models = "Llama 1 to 3.3, SmolLM 1 and 2, TinyLlama, Vicuna",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
