// OPT (Zhang et al., 2022), as transformers' modeling_opt.py has it: learned
// positions that begin at row 2 of their table; norms before attention and MLP,
// or after them (350m, which also has narrower embeddings than layers).

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
    {"eos_token_id"},
    {"activation_dropout", kUnused},
    {"attention_dropout", kUnused},
    {"bos_token_id", kUnused},
    {"dropout", kUnused},
    {"init_std", kUnused},
    {"layerdrop", kUnused},
    {"pad_token_id", kUnused},
    {"prefix", kUnused},
};

struct Config {
  int64_t vocab_size, positions, width, embedding_width, layers, heads, inner;
  quant::Activation activation;
  bool norm_before, final_norm, bias, affine, tied;

  int64_t head_dim() const { return width / heads; }
  // torch.nn.LayerNorm's own epsilon.
  NormKind norm() const {
    return {.epsilon = 1e-5f, .weight = affine, .bias = affine};
  }
};

Config ReadConfig(ConfigReader& reader) {
  Config config;
  config.vocab_size = reader.Int("vocab_size", 1, kMaxVocab, 50272);
  config.positions =
      reader.Int("max_position_embeddings", 1, kMaxPositions, 2048);
  config.width = reader.Int("hidden_size", 1, kMaxWidth, 768);
  config.embedding_width =
      reader.OptionalInt("word_embed_proj_dim", 1, kMaxWidth, config.width);
  config.layers = reader.Int("num_hidden_layers", 1, kMaxLayers, 12);
  config.heads = reader.Int("num_attention_heads", 1, kMaxWidth, 12);
  config.inner = reader.Int("ffn_dim", 1, 4 * kMaxWidth, 3072);
  config.activation = reader.Activation("activation_function", "relu");
  config.norm_before = reader.Bool("do_layer_norm_before", true);
  config.final_norm =
      config.norm_before && !reader.Bool("_remove_final_layer_norm", false);
  config.bias = reader.Bool("enable_bias", true);
  config.affine = reader.Bool("layer_norm_elementwise_affine", true);
  config.tied = reader.Bool("tie_word_embeddings", true);
  if (reader.status().ok() && config.width % config.heads != 0) {
    reader.Fail(
        WrongField("hidden_size",
                   StrCat("a multiple of num_attention_heads = ", config.heads),
                   StrCat(config.width)));
  }
  return config;
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const Config& config,
                                       WeightReader& weights) {
  const int64_t width = config.width, inner = config.inner;
  DecoderBlock block;
  ASSIGN_OR_RETURN(
      block.attention_norm,
      ReadNorm(weights, name + ".self_attn_layer_norm", width, config.norm()));
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadQkv(weights,
                           {.query = name + ".self_attn.q_proj",
                            .key = name + ".self_attn.k_proj",
                            .value = name + ".self_attn.v_proj",
                            .heads = config.heads,
                            .kv_heads = config.heads,
                            .head_dim = config.head_dim(),
                            .bias = config.bias},
                           width));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".self_attn.out_proj", width,
                              width, config.bias));
  block.attention.score_divisor =
      std::sqrt(static_cast<float>(config.head_dim()));
  ASSIGN_OR_RETURN(block.mlp_norm, ReadNorm(weights, name + ".final_layer_norm",
                                            width, config.norm()));
  ASSIGN_OR_RETURN(block.mlp.up, ReadLinear(weights, name + ".fc1", inner,
                                            width, config.bias));
  ASSIGN_OR_RETURN(block.mlp.down, ReadLinear(weights, name + ".fc2", width,
                                              inner, config.bias));
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
      .architecture = "opt",
      .vocab_size = config.vocab_size,
      .max_positions = config.positions,
      .width = config.width,
      .form = config.norm_before ? BlockForm::kPreNorm : BlockForm::kPostNorm,
      .heads = SplitHeads(config.heads, config.heads, config.head_dim()),
      .default_eos_id = 2};
  const bool projected = config.embedding_width != config.width;
  const std::string model = weights.PrefixOf("embed_positions.weight",
                                             {"model.decoder.", "decoder."});
  net.embedding.cols = config.embedding_width;
  net.embedding.position_offset = 2;
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "embed_tokens",
                                  model + "embed_positions", net));
  if (projected) {
    ASSIGN_OR_RETURN(net.embedding.project_in,
                     ReadLinear(weights, model + "project_in", config.width,
                                config.embedding_width, /*bias=*/false));
  }
  for (int64_t i = 0; i < config.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "layers.", i), config, weights));
    net.blocks.push_back(std::move(block));
  }
  if (config.final_norm) {
    ASSIGN_OR_RETURN(net.final_norm,
                     ReadNorm(weights, model + "final_layer_norm", config.width,
                              config.norm()));
  }
  if (projected) {
    ASSIGN_OR_RETURN(net.project_out,
                     ReadLinear(weights, model + "project_out",
                                config.embedding_width, config.width,
                                /*bias=*/false));
  }
  ASSIGN_OR_RETURN(
      net.head,
      ReadHead(weights, "lm_head", net.vocab_size, config.embedding_width,
               config.tied ? model + "embed_tokens" : "", /*bias=*/false));
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
