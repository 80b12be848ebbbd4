// GPT-J (Wang and Komatsuzaki, 2021), as transformers' modeling_gptj.py has it:
// CodeGen with q, k and v in matrices of their own.

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/arch/gpt_config.h"
#include "model/config_fields.h"
#include "model/decoder/decoder.h"
#include "model/decoder/head_layouts.h"
#include "model/decoder/read_weights.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of GPTJConfig.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"n_positions"},
    {"n_embd"},
    {"n_layer"},
    {"n_head"},
    {"n_inner"},
    {"activation_function"},
    {"layer_norm_epsilon"},
    {"tie_word_embeddings"},
    {"eos_token_id"},
    {"rotary_dim"},
    {"attn_pdrop", kUnused},
    {"bos_token_id", kUnused},
    {"embd_pdrop", kUnused},
    {"initializer_range", kUnused},
    {"pad_token_id", kUnused},
    {"resid_pdrop", kUnused},
    {"gradient_checkpointing", kUnused},
    {"scale_attn_weights", kUnused},
    {"summary_activation", kUnused},
    {"summary_first_dropout", kUnused},
    {"summary_proj_to_labels", kUnused},
    {"summary_type", kUnused},
    {"summary_use_proj", kUnused},
    {"task_specific_params", kUnused},
    {"tokenizer_class", kUnused},
};

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const GptConfig& config,
                                       WeightReader& weights) {
  const int64_t width = config.width, inner = config.inner;
  DecoderBlock block;
  ASSIGN_OR_RETURN(
      block.attention_norm,
      ReadNorm(weights, name + ".ln_1", width, {.epsilon = config.epsilon}));
  ASSIGN_OR_RETURN(block.attention.qkv, ReadQkv(weights,
                                                {.query = name + ".attn.q_proj",
                                                 .key = name + ".attn.k_proj",
                                                 .value = name + ".attn.v_proj",
                                                 .heads = config.heads,
                                                 .kv_heads = config.heads,
                                                 .head_dim = config.head_dim(),
                                                 .bias = false},
                                                width));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".attn.out_proj", width, width,
                              /*bias=*/false));
  block.attention.score_divisor =
      std::sqrt(static_cast<float>(config.head_dim()));
  ASSIGN_OR_RETURN(block.mlp.up, ReadLinear(weights, name + ".mlp.fc_in", inner,
                                            width, /*bias=*/true));
  ASSIGN_OR_RETURN(block.mlp.down, ReadLinear(weights, name + ".mlp.fc_out",
                                              width, inner, /*bias=*/true));
  block.mlp.activation = config.mlp_activation;
  return block;
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  const GptConfig config = ReadGptConfig(reader, {.vocab_size = 50400,
                                                  .positions = 2048,
                                                  .width = 4096,
                                                  .layers = 28,
                                                  .heads = 16,
                                                  .tied = false});
  const int64_t rotary_dim = reader.Int("rotary_dim", 2, kMaxWidth, 64);
  if (reader.status().ok() &&
      (rotary_dim % 2 != 0 || rotary_dim > config.head_dim())) {
    reader.Fail(WrongField(
        "rotary_dim",
        StrCat("even and at most the size of a head, n_embd / n_head = ",
               config.head_dim()),
        StrCat(rotary_dim)));
  }
  RETURN_IF_ERROR(
      WithContext(reader.status(), checkpoint.folder() + "/config.json"));
  DecoderDescription net = {
      .architecture = "gptj",
      .vocab_size = config.vocab_size,
      .max_positions = config.positions,
      .width = config.width,
      .form = BlockForm::kParallel,
      .heads = SplitHeads(config.heads, config.heads, config.head_dim()),
      .rope = RopeSpec{.rotary_dim = rotary_dim,
                       .frequencies = RopeFrequencies(rotary_dim, 10000)},
      .default_eos_id = 50256};
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, "transformer.wte", "", net));
  for (int64_t i = 0; i < config.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat("transformer.h.", i), config, weights));
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm,
                   ReadNorm(weights, "transformer.ln_f", net.width,
                            {.epsilon = config.epsilon}));
  ASSIGN_OR_RETURN(
      net.head, ReadHead(weights, "lm_head", net.vocab_size, net.width,
                         config.tied ? "transformer.wte" : "", /*bias=*/true));
  // Constants that older releases of transformers stored.
  weights.Ignore("transformer.h.*.attn.masked_bias");
  weights.Ignore("transformer.h.*.attn.bias");
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& GptJ() {
  static constexpr Architecture kArchitecture = {
      .name = "gptj", .models = "GPT-J 6B", .keys = kKeys, .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
