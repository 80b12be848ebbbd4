// Mistral (Jiang et al., 2023), as transformers' modeling_mistral.py has it: a
// Llama without biases whose tokens see a window of sliding_window positions.

#include "model/arch/llama_like.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kMustBe = ConfigKey::Use::kMustBe;
constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of MistralConfig.
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
    {"sliding_window"},
    {"partial_rotary_factor", kMustBe, "1"},
    {"attention_dropout", kUnused},
};

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  LlamaConfig config = ReadLlamaConfig(reader, {.vocab_size = 32000,
                                                .positions = 131072,
                                                .width = 4096,
                                                .layers = 32,
                                                .heads = 32,
                                                .kv_heads = 8,
                                                .inner = 14336,
                                                .activation = "silu",
                                                .epsilon = 1e-6,
                                                .tied = false});
  config.windows = ReadWindow(reader, 4096, config.sizes.layers);
  return MakeLlama("mistral", reader, config, checkpoint, compute, weights);
}

}  // namespace

const Architecture& Mistral() {
  static constexpr Architecture kArchitecture = {.name = "mistral",
                                                 .models = "Mistral 7B, Zephyr",
                                                 .keys = kKeys,
                                                 .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
