// Qwen3 (Yang et al., 2025), as transformers' modeling_qwen3.py has it: a Llama
// that normalizes each query and key head before it is turned.

#include "model/arch/llama_like.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kMustBe = ConfigKey::Use::kMustBe;
constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of Qwen3Config.
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
                                                .head_dim = 128,
                                                .inner = 22016,
                                                .activation = "silu",
                                                .epsilon = 1e-6,
                                                .tied = false});
  config.qkv_bias = config.out_bias = reader.Bool("attention_bias", false);
  config.head_norms = true;
  config.windows = ReadLayerWindows(reader, config.sizes.layers);
  config.eos_id = -1;
  return MakeLlama("qwen3", reader, config, checkpoint, compute, weights);
}

}  // namespace

const Architecture& Qwen3() {
  static constexpr Architecture kArchitecture = {.name = "qwen3",
                                                 .models = "Qwen3 (dense)",
                                                 .keys = kKeys,
                                                 .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
