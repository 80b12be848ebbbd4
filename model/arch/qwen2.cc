// Qwen2 (Yang et al., 2024), as transformers' modeling_qwen2.py has it: a Llama
// with biases of q, k and v, and windows in its later layers if asked for.

#include "model/arch/llama_like.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kMustBe = ConfigKey::Use::kMustBe;
constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of Qwen2Config.
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
    {"use_sliding_window"},
    {"sliding_window"},
    {"max_window_layers"},
    {"layer_types"},
    {"partial_rotary_factor", kMustBe, "1"},
    {"attention_dropout", kUnused},
};

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  LlamaConfig config = ReadLlamaConfig(reader, {.vocab_size = 151936,
                                                .positions = 32768,
                                                .width = 4096,
                                                .layers = 32,
                                                .heads = 32,
                                                .kv_heads = 32,
                                                .inner = 22016,
                                                .activation = "silu",
                                                .epsilon = 1e-6,
                                                .tied = false});
  config.qkv_bias = true;
  config.windows = ReadLayerWindows(reader, config.sizes.layers);
  config.eos_id = -1;
  return MakeLlama("qwen2", reader, config, checkpoint, compute, weights);
}

}  // namespace

const Architecture& Qwen2() {
  static constexpr Architecture kArchitecture = {.name = "qwen2",
                                                 .models = "Qwen2, Qwen2.5",
                                                 .keys = kKeys,
                                                 .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
