// OPT (Zhang et al., 2022), as transformers' modeling_opt.py has it: learned
// positions that begin at row 2 of their table; norms before attention and MLP,
// or after them (350m, which also has narrower embeddings than layers).

#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/decoder/decoder.h"
#include "model/decoder/head_layouts.h"
#include "model/decoder/read_weights.h"
#include "model/decoder/sizes.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of OPTConfig.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"hidden_size"},
    {"num_hidden_layers"},
    {"ffn_dim"},
    {"max_position_embeddings"},
    {"do_layer_norm_before"},
    {"_remove_final_layer_norm"},
    {"word_embed_proj_dim"},
    {"num_attention_heads"},
    {"activation_function"},
    {"enable_bias"},
    {"layer_norm_elementwise_affine"},
    {"tie_word_embeddings"},
    {"activation_dropout", kUnused},
    {"attention_dropout", kUnused},
    {"dropout", kUnused},
    {"init_std", kUnused},
    {"layerdrop", kUnused},
};

struct Config {
  DecoderSizes sizes;
  int64_t embedding_width;
  bool norm_before, final_norm, bias;
  NormKind norm;
};

Config ReadConfig(ConfigReader& reader) {
  Config config;
  // Its epsilon is torch.nn.LayerNorm's own.
  config.sizes = ReadSizes(
      reader,
      {.vocab_size = 50272,
       .width = 768,
       .layers = 12,
       .heads = 12,
       .inner = 3072,
       .activation = "relu"},
      {.inner = "ffn_dim", .activation = "activation_function", .epsilon = ""});
  config.embedding_width = reader.OptionalInt("word_embed_proj_dim", 1,
                                              kMaxWidth, config.sizes.width);
  config.norm_before = reader.Bool("do_layer_norm_before", true);
  config.final_norm =
      !reader.Bool("_remove_final_layer_norm", false) && config.norm_before;
  config.bias = reader.Bool("enable_bias", true);
  const bool affine = reader.Bool("layer_norm_elementwise_affine", true);
  config.norm = {
      .epsilon = config.sizes.norm_epsilon, .weight = affine, .bias = affine};
  return config;
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const Config& config,
                                       WeightReader& weights) {
  const DecoderSizes& sizes = config.sizes;
  const int64_t width = sizes.width;
  DecoderBlock block;
  ASSIGN_OR_RETURN(
      block.attention_norm,
      ReadNorm(weights, name + ".self_attn_layer_norm", width, config.norm));
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadQkv(weights, name + ".self_attn", sizes, config.bias));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".self_attn.out_proj", width,
                              width, config.bias));
  block.attention.score_divisor = sizes.score_divisor;
  ASSIGN_OR_RETURN(block.mlp_norm, ReadNorm(weights, name + ".final_layer_norm",
                                            width, config.norm));
  ASSIGN_OR_RETURN(block.mlp, ReadMlp(weights, name + ".fc1", name + ".fc2",
                                      sizes, config.bias));
  return block;
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  const Config config = ReadConfig(reader);
  const DecoderSizes& sizes = config.sizes;
  RETURN_IF_ERROR(WithContext(reader.status(), checkpoint.config_name()));
  DecoderDescription net = {
      .architecture = "opt",
      .vocab_size = sizes.vocab_size,
      .max_positions = sizes.positions,
      .width = sizes.width,
      .form = config.norm_before ? BlockForm::kPreNorm : BlockForm::kPostNorm,
      .heads = SplitHeads(sizes.heads, sizes.heads, sizes.head_dim),
      .default_eos_id = 2};
  const std::string model = weights.PrefixOf(
      "embed_positions.weight", {"model.decoder.", "decoder.", ""});
  net.embedding.cols = config.embedding_width;
  net.embedding.position_offset = 2;
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "embed_tokens",
                                  model + "embed_positions", net));
  if (config.embedding_width != net.width) {
    ASSIGN_OR_RETURN(net.embedding.project_in,
                     ReadLinear(weights, model + "project_in", net.width,
                                config.embedding_width, /*bias=*/false));
    ASSIGN_OR_RETURN(net.project_out,
                     ReadLinear(weights, model + "project_out",
                                config.embedding_width, net.width,
                                /*bias=*/false));
  }
  for (int64_t i = 0; i < sizes.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "layers.", i), config, weights));
    net.blocks.push_back(std::move(block));
  }
  if (config.final_norm) {
    ASSIGN_OR_RETURN(
        net.final_norm,
        ReadNorm(weights, model + "final_layer_norm", net.width, config.norm));
  }
  ASSIGN_OR_RETURN(
      net.head,
      ReadHead(weights, "lm_head", net.vocab_size, config.embedding_width,
               sizes.tied ? model + "embed_tokens" : "", /*bias=*/false));
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& Opt() {
  static constexpr Architecture kArchitecture = {
      .name = "opt",
      .models = "OPT 125m to 66b, Galactica",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
