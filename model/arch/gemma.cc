// Gemma (Gemma Team, 2024), as transformers' modeling_gemma.py has it: a Llama
// whose norms multiply by one plus the weight, and whose embeddings are scaled
// by the root of the width.

#include <cmath>

#include "model/arch/llama_like.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kMustBe = ConfigKey::Use::kMustBe;
constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of GemmaConfig.
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
    {"partial_rotary_factor", kMustBe, "1"},
    {"attention_dropout", kUnused},
    {"hidden_activation", kUnused},
};

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  LlamaConfig config =
      ReadLlamaConfig(reader, {.vocab_size = 256000,
                               .positions = 8192,
                               .width = 3072,
                               .layers = 28,
                               .heads = 16,
                               .kv_heads = 16,
                               .head_dim = 256,
                               .inner = 24576,
                               .activation = "gelu_pytorch_tanh",
                               .epsilon = 1e-6});
  config.norm.plus_one = true;
  config.qkv_bias = config.out_bias = reader.Bool("attention_bias", false);
  config.embedding_scale = std::sqrt(static_cast<float>(config.sizes.width));
  config.eos_id = 1;
  return MakeLlama("gemma", reader, config, checkpoint, compute, weights);
}

}  // namespace

const Architecture& Gemma() {
  static constexpr Architecture kArchitecture = {.name = "gemma",
                                                 .models = "Gemma 1, CodeGemma",
                                                 .keys = kKeys,
                                                 .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
