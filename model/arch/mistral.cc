// Mistral (Jiang et al., 2023), as transformers' modeling_mistral.py has it: a
// Llama without biases whose tokens see a window of sliding_window positions.

#include "base/status_macros.h"
#include "model/arch/llama_like.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

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
    {"eos_token_id"},
    {"sliding_window"},
    {"attention_dropout", kUnused},
    {"bos_token_id", kUnused},
    {"initializer_range", kUnused},
    {"pad_token_id", kUnused},
};

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  LlamaConfig config = ReadLlamaConfig(
      reader, {.positions = 131072, .inner = 14336, .kv_heads = 8});
  config.windows = ReadWindow(reader, 4096, config.layers);
  RETURN_IF_ERROR(
      WithContext(reader.status(), checkpoint.folder() + "/config.json"));
  ASSIGN_OR_RETURN(DecoderDescription net,
                   ReadLlama("mistral", config,
                             {.kind = NormWeights::kRms,
                              .epsilon = static_cast<float>(config.epsilon),
                              .bias = false},
                             {}, weights));
  return MakeDecoder(checkpoint, compute, std::move(net));
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
