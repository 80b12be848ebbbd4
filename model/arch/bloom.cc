// BLOOM (Le Scao et al., 2022), as transformers' modeling_bloom.py has it: no
// positions but a bias of each score that falls with the distance (ALiBi), a
// norm of the embeddings, and queries, keys and values head by head.

#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/decoder/alibi.h"
#include "model/decoder/decoder.h"
#include "model/decoder/head_layouts.h"
#include "model/decoder/read_weights.h"
#include "model/decoder/sizes.h"
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
    {"attention_dropout", kUnused},
    {"attention_softmax_in_fp32", kUnused},
    {"bias_dropout_fusion", kUnused},
    {"hidden_dropout", kUnused},
    {"masked_softmax_fusion", kUnused},
    {"offset_alibi", kUnused},
    {"pretraining_tp", kUnused},
    {"skip_bias_add", kUnused},
    {"skip_bias_add_qkv", kUnused},
    {"slow_but_exact", kUnused},
};

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const DecoderSizes& sizes,
                                       WeightReader& weights) {
  const int64_t width = sizes.width;
  const NormKind norm = {.epsilon = sizes.norm_epsilon};
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm,
                   ReadNorm(weights, name + ".input_layernorm", width, norm));
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadLinear(weights, name + ".self_attention.query_key_value",
                              3 * width, width, /*bias=*/true));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".self_attention.dense", width,
                              width, /*bias=*/true));
  block.attention.score_divisor = sizes.score_divisor;
  ASSIGN_OR_RETURN(
      block.mlp_norm,
      ReadNorm(weights, name + ".post_attention_layernorm", width, norm));
  ASSIGN_OR_RETURN(block.mlp,
                   ReadMlp(weights, name + ".mlp.dense_h_to_4h",
                           name + ".mlp.dense_4h_to_h", sizes, /*bias=*/true));
  return block;
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  // The network has no limit of positions; seq_length is how long the texts
  // were that it learned from.
  const DecoderSizes sizes = ReadSizes(
      reader, {.vocab_size = 250880, .width = 64, .layers = 2, .heads = 8},
      {.positions = "seq_length",
       .width = "n_embed",
       .layers = "n_layer",
       .heads = "n_head",
       .inner = "",
       .activation = "",
       .epsilon = "layer_norm_epsilon"});
  const bool normed_residual =
      reader.Bool("apply_residual_connection_post_layernorm", false);
  CheckAlibi(reader, sizes);
  RETURN_IF_ERROR(WithContext(reader.status(), checkpoint.config_name()));
  DecoderDescription net = {
      .architecture = "bloom",
      .vocab_size = sizes.vocab_size,
      .max_positions = sizes.positions,
      .width = sizes.width,
      .form =
          normed_residual ? BlockForm::kNormedResidual : BlockForm::kPreNorm,
      .heads = GroupedHeads(sizes.heads, sizes.heads, sizes.head_dim),
      .alibi = AlibiForm::kBloom,
      .default_eos_id = 2};
  const std::string model =
      weights.PrefixOf("word_embeddings.weight", {"transformer.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "word_embeddings", "", net));
  ASSIGN_OR_RETURN(net.embedding.norm,
                   ReadNorm(weights, model + "word_embeddings_layernorm",
                            net.width, {.epsilon = sizes.norm_epsilon}));
  for (int64_t i = 0; i < sizes.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "h.", i), sizes, weights));
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm, ReadNorm(weights, model + "ln_f", net.width,
                                            {.epsilon = sizes.norm_epsilon}));
  ASSIGN_OR_RETURN(
      net.head,
      ReadHead(weights, "lm_head", net.vocab_size, net.width,
               sizes.tied ? model + "word_embeddings" : "", /*bias=*/false));
  IgnoreConstants(weights);
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
