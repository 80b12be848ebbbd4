// Phi-3 (Abdin et al., 2024), as transformers' modeling_phi3.py has it: a Llama
// with q, k and v in one tensor, and gate and up in another.

#include "base/status_macros.h"
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
    {"eos_token_id"},
    {"partial_rotary_factor"},
    {"sliding_window"},
    {"rope_scaling", kMustBe, "null"},
    {"attention_dropout", kUnused},
    {"bos_token_id", kUnused},
    {"initializer_range", kUnused},
    {"pad_token_id", kUnused},
    {"embd_pdrop", kUnused},
    {"original_max_position_embeddings", kUnused},
    {"resid_pdrop", kUnused},
};

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  LlamaConfig config = ReadLlamaConfig(reader, {.vocab_size = 32064,
                                                .positions = 4096,
                                                .width = 3072,
                                                .inner = 8192,
                                                .epsilon = 1e-5,
                                                .eos_id = 32000});
  config.windows = ReadWindow(reader, 0, config.layers);
  RETURN_IF_ERROR(
      WithContext(reader.status(), checkpoint.folder() + "/config.json"));
  ASSIGN_OR_RETURN(
      DecoderDescription net,
      ReadLlama("phi3", config,
                {.kind = NormWeights::kRms,
                 .epsilon = static_cast<float>(config.epsilon),
                 .bias = false},
                {.fused_qkv = true, .fused_gate_up = true}, weights));
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& Phi3() {
  static constexpr Architecture kArchitecture = {
      .name = "phi3",
      .models = "Phi-3 and Phi-4 mini without long contexts",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
