// StarCoder2 (Lozhkov et al., 2024), as transformers' modeling_starcoder2.py
// has it: grouped heads, rotary embedding by halves, a window, LayerNorm and
// biases, and an MLP without a gate.

#include "model/arch/llama_like.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kMustBe = ConfigKey::Use::kMustBe;
constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of Starcoder2Config.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"hidden_size"},
    {"intermediate_size"},
    {"num_hidden_layers"},
    {"num_attention_heads"},
    {"num_key_value_heads"},
    {"hidden_act"},
    {"max_position_embeddings"},
    {"norm_epsilon"},
    {"rope_theta"},
    {"rope_scaling"},
    {"sliding_window"},
    {"use_bias"},
    {"tie_word_embeddings"},
    {"head_dim"},
    {"partial_rotary_factor", kMustBe, "1"},
    {"attention_dropout", kUnused},
    {"embedding_dropout", kUnused},
    {"mlp_type", kUnused},
    {"norm_type", kUnused},
    {"residual_dropout", kUnused},
};

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  SizeKeys keys = kLlamaKeys;
  keys.epsilon = "norm_epsilon";
  LlamaConfig config = ReadLlamaConfig(reader,
                                       {.vocab_size = 49152,
                                        .positions = 4096,
                                        .width = 3072,
                                        .layers = 30,
                                        .heads = 24,
                                        .kv_heads = 2,
                                        .inner = 12288,
                                        .activation = "gelu_pytorch_tanh"},
                                       keys);
  config.norm = {.epsilon = config.sizes.norm_epsilon};
  config.windows = ReadWindow(reader, 0, config.sizes.layers);
  config.qkv_bias = config.out_bias = config.mlp_bias =
      reader.Bool("use_bias", true);
  config.gated = false;
  config.eos_id = 50256;
  return MakeLlama("starcoder2", reader, config, checkpoint, compute, weights);
}

}  // namespace

const Architecture& Starcoder2() {
  static constexpr Architecture kArchitecture = {
      .name = "starcoder2",
      .models = "StarCoder2 3B, 7B, 15B",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
