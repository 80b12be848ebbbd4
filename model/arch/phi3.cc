// Phi-3 (Abdin et al., 2024), as transformers' modeling_phi3.py has it: a Llama
// with q, k and v in one tensor, and gate and up in another.

#include "model/arch/llama_like.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kMustBe = ConfigKey::Use::kMustBe;
constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of Phi3Config.
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
    {"tie_word_embeddings"},
    {"partial_rotary_factor"},
    {"sliding_window"},
    {"rope_scaling", kMustBe, "null"},
    {"attention_bias", kMustBe, "false"},
    {"attention_dropout", kUnused},
    {"embd_pdrop", kUnused},
    {"original_max_position_embeddings", kUnused},
    {"resid_pdrop", kUnused},
};

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  LlamaConfig config =
      ReadLlamaConfig(reader,
                      {.vocab_size = 32064,
                       .positions = 4096,
                       .width = 3072,
                       .layers = 32,
                       .heads = 32,
                       .inner = 8192,
                       .activation = "silu",
                       .tied = false},
                      kLlamaKeys, {.partial = "partial_rotary_factor"});
  config.windows = ReadWindow(reader, 0, config.sizes.layers);
  config.fused_qkv = config.fused_gate_up = true;
  config.eos_id = 32000;
  return MakeLlama("phi3", reader, config, checkpoint, compute, weights);
}

}  // namespace

const Architecture& Phi3() {
  static constexpr Architecture kArchitecture = {
      .name = "phi3",
      .models = "Phi-3 mini and medium (4k), Phi-4",
      .keys = kKeys,
      .takes_published_code = true,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
