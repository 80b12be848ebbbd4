// GPT-NeoX (Black et al., 2022), as transformers' modeling_gpt_neox.py has it:
// attention and MLP side by side (or one after the other), each with a norm of
// its own; queries, keys and values lie head by head; rotary embedding by
// halves of the first rotary_pct of a head.

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/decoder/decoder.h"
#include "model/decoder/head_layouts.h"
#include "model/decoder/read_weights.h"
#include "model/decoder/rope_config.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of GPTNeoXConfig.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"hidden_size"},
    {"num_hidden_layers"},
    {"num_attention_heads"},
    {"intermediate_size"},
    {"hidden_act"},
    {"rotary_pct"},
    {"rotary_emb_base"},
    {"rope_scaling"},
    {"max_position_embeddings"},
    {"layer_norm_eps"},
    {"tie_word_embeddings"},
    {"use_parallel_residual"},
    {"attention_bias"},
    {"eos_token_id"},
    {"attention_dropout", kUnused},
    {"bos_token_id", kUnused},
    {"classifier_dropout", kUnused},
    {"hidden_dropout", kUnused},
    {"initializer_range", kUnused},
    {"pad_token_id", kUnused},
};

struct Config {
  int64_t vocab_size, positions, width, layers, heads, inner;
  float epsilon;
  quant::Activation activation;
  bool tied, parallel, attention_bias;
  RopeSpec rope;

  int64_t head_dim() const { return width / heads; }
};

Config ReadConfig(ConfigReader& reader) {
  Config config;
  config.vocab_size = reader.Int("vocab_size", 1, kMaxVocab, 50432);
  config.positions =
      reader.Int("max_position_embeddings", 1, kMaxPositions, 2048);
  config.width = reader.Int("hidden_size", 1, kMaxWidth, 6144);
  config.layers = reader.Int("num_hidden_layers", 1, kMaxLayers, 44);
  config.heads = reader.Int("num_attention_heads", 1, kMaxWidth, 64);
  config.inner = reader.Int("intermediate_size", 1, 4 * kMaxWidth, 24576);
  config.epsilon = reader.Number("layer_norm_eps", 0, 1, 1e-5);
  config.activation = reader.Activation("hidden_act", "gelu");
  config.tied = reader.Bool("tie_word_embeddings", false);
  config.parallel = reader.Bool("use_parallel_residual", true);
  config.attention_bias = reader.Bool("attention_bias", true);
  if (!reader.status().ok()) return config;
  if (config.width % config.heads != 0) {
    reader.Fail(
        WrongField("hidden_size",
                   StrCat("a multiple of num_attention_heads = ", config.heads),
                   StrCat(config.width)));
    return config;
  }
  absl::StatusOr<RopeSpec> rope = ReadRope(reader.json(), RopePairing::kHalves,
                                           config.head_dim(), config.positions,
                                           {.base = "rotary_emb_base",
                                            .partial = "rotary_pct",
                                            .absent_partial = 0.25});
  if (rope.ok()) {
    config.rope = *std::move(rope);
  } else {
    reader.Fail(rope.status());
  }
  return config;
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const Config& config,
                                       WeightReader& weights) {
  const int64_t width = config.width, inner = config.inner;
  const NormKind norm = {.epsilon = config.epsilon};
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm,
                   ReadNorm(weights, name + ".input_layernorm", width, norm));
  ASSIGN_OR_RETURN(
      block.mlp_norm,
      ReadNorm(weights, name + ".post_attention_layernorm", width, norm));
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadLinear(weights, name + ".attention.query_key_value",
                              3 * width, width, config.attention_bias));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".attention.dense", width, width,
                              config.attention_bias));
  block.attention.score_divisor =
      std::sqrt(static_cast<float>(config.head_dim()));
  ASSIGN_OR_RETURN(block.mlp.up,
                   ReadLinear(weights, name + ".mlp.dense_h_to_4h", inner,
                              width, /*bias=*/true));
  ASSIGN_OR_RETURN(
      block.mlp.down,
      ReadLinear(weights, name + ".mlp.dense_4h_to_h", width, inner,
                 /*bias=*/true));
  block.mlp.activation = config.activation;
  return block;
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  const Config config = ReadConfig(reader);
  RETURN_IF_ERROR(
      WithContext(reader.status(), checkpoint.folder() + "/config.json"));
  DecoderDescription net = {
      .architecture = "gpt_neox",
      .vocab_size = config.vocab_size,
      .max_positions = config.positions,
      .width = config.width,
      .form = config.parallel ? BlockForm::kParallel : BlockForm::kPreNorm,
      .heads = GroupedHeads(config.heads, config.heads, config.head_dim()),
      .rope = config.rope,
      .default_eos_id = 2};
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, "gpt_neox.embed_in", "", net));
  for (int64_t i = 0; i < config.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat("gpt_neox.layers.", i), config, weights));
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm,
                   ReadNorm(weights, "gpt_neox.final_layer_norm", net.width,
                            {.epsilon = config.epsilon}));
  ASSIGN_OR_RETURN(net.head,
                   ReadHead(weights, "embed_out", net.vocab_size, net.width,
                            config.tied ? "gpt_neox.embed_in" : "",
                            /*bias=*/false));
  // Constants that older releases of transformers stored.
  weights.Ignore("gpt_neox.layers.*.attention.masked_bias");
  weights.Ignore("gpt_neox.layers.*.attention.bias");
  weights.Ignore("gpt_neox.layers.*.rotary_emb.inv_freq");
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& GptNeoX() {
  static constexpr Architecture kArchitecture = {
      .name = "gpt_neox",
      .models = "GPT-NeoX 20B, Pythia, RedPajama-INCITE, Dolly v2",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
