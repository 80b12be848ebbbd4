// BLOOM (Le Scao et al., 2022), as transformers' modeling_bloom.py has it: no
// positions but a bias of each score that falls with the distance (ALiBi), a
// norm of the embeddings, and queries, keys and values head by head.

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/decoder/alibi.h"
#include "model/decoder/decoder.h"
#include "model/decoder/head_layouts.h"
#include "model/decoder/read_weights.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of BloomConfig.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"hidden_size"},
    {"n_embed"},
    {"n_layer"},
    {"n_head"},
    {"layer_norm_epsilon"},
    {"apply_residual_connection_post_layernorm"},
    {"seq_length"},
    {"tie_word_embeddings"},
    {"eos_token_id"},
    {"attention_dropout", kUnused},
    {"attention_softmax_in_fp32", kUnused},
    {"bias_dropout_fusion", kUnused},
    {"bos_token_id", kUnused},
    {"hidden_dropout", kUnused},
    {"initializer_range", kUnused},
    {"masked_softmax_fusion", kUnused},
    {"offset_alibi", kUnused},
    {"pad_token_id", kUnused},
    {"pad_token_id", kUnused},
    {"pretraining_tp", kUnused},
    {"skip_bias_add", kUnused},
    {"skip_bias_add_qkv", kUnused},
    {"slow_but_exact", kUnused},
    {"unk_token_id", kUnused},
};

struct Config {
  int64_t vocab_size, positions, width, layers, heads;
  float epsilon;
  bool normed_residual, tied;

  int64_t head_dim() const { return width / heads; }
};

Config ReadConfig(ConfigReader& reader) {
  Config config;
  config.vocab_size = reader.Int("vocab_size", 1, kMaxVocab, 250880);
  // The network has no limit; this is how long the texts were that it learned
  // from.
  config.positions = reader.Int("seq_length", 1, kMaxPositions, 2048);
  config.width = reader.Int("hidden_size", "n_embed", 1, kMaxWidth, 64);
  config.layers = reader.Int("n_layer", "num_hidden_layers", 1, kMaxLayers, 2);
  config.heads = reader.Int("n_head", "num_attention_heads", 1, kMaxWidth, 8);
  config.epsilon = reader.Number("layer_norm_epsilon", 0, 1, 1e-5);
  config.normed_residual =
      reader.Bool("apply_residual_connection_post_layernorm", false);
  config.tied = reader.Bool("tie_word_embeddings", true);
  if (reader.status().ok() && config.width % config.heads != 0) {
    reader.Fail(WrongField("hidden_size",
                           StrCat("a multiple of n_head = ", config.heads),
                           StrCat(config.width)));
  }
  return config;
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const Config& config,
                                       WeightReader& weights) {
  const int64_t width = config.width, inner = 4 * config.width;
  const NormKind norm = {.epsilon = config.epsilon};
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm,
                   ReadNorm(weights, name + ".input_layernorm", width, norm));
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadLinear(weights, name + ".self_attention.query_key_value",
                              3 * width, width, /*bias=*/true));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".self_attention.dense", width,
                              width, /*bias=*/true));
  block.attention.score_divisor =
      std::sqrt(static_cast<float>(config.head_dim()));
  ASSIGN_OR_RETURN(
      block.mlp_norm,
      ReadNorm(weights, name + ".post_attention_layernorm", width, norm));
  ASSIGN_OR_RETURN(block.mlp.up,
                   ReadLinear(weights, name + ".mlp.dense_h_to_4h", inner,
                              width, /*bias=*/true));
  ASSIGN_OR_RETURN(
      block.mlp.down,
      ReadLinear(weights, name + ".mlp.dense_4h_to_h", width, inner,
                 /*bias=*/true));
  block.mlp.activation = quant::Activation::kGeluTanh;
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
      .architecture = "bloom",
      .vocab_size = config.vocab_size,
      .max_positions = config.positions,
      .width = config.width,
      .form = config.normed_residual ? BlockForm::kNormedResidual
                                     : BlockForm::kPreNorm,
      .heads = GroupedHeads(config.heads, config.heads, config.head_dim()),
      .position_bias = AlibiBias(config.heads, config.positions),
      .default_eos_id = 2};
  const std::string model =
      weights.PrefixOf("word_embeddings.weight", {"transformer.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "word_embeddings", "", net));
  ASSIGN_OR_RETURN(net.embedding.norm,
                   ReadNorm(weights, model + "word_embeddings_layernorm",
                            net.width, {.epsilon = config.epsilon}));
  for (int64_t i = 0; i < config.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "h.", i), config, weights));
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm, ReadNorm(weights, model + "ln_f", net.width,
                                            {.epsilon = config.epsilon}));
  ASSIGN_OR_RETURN(
      net.head,
      ReadHead(weights, "lm_head", net.vocab_size, net.width,
               config.tied ? model + "word_embeddings" : "", /*bias=*/false));
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& Bloom() {
  static constexpr Architecture kArchitecture = {.name = "bloom",
                                                 .models = "BLOOM, BLOOMZ",
                                                 .keys = kKeys,
                                                 .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
