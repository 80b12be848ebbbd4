// GPT-NeoX (Black et al., 2022), as transformers' modeling_gpt_neox.py has it:
// attention and MLP side by side (or one after the other), each with a norm of
// its own; queries, keys and values lie head by head; rotary embedding by
// halves of the first rotary_pct of a head.

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
#include "model/decoder/sizes.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kRead = ConfigKey::Use::kRead;
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
    {"attention_dropout", kUnused},
    {"classifier_dropout", kUnused},
    {"hidden_dropout", kUnused},
    {"partial_rotary_factor", kUnused},
    {"rope_theta", kUnused},
    {"head_dim", kRead, "the width over the heads"},
};

struct Config {
  DecoderSizes sizes;
  bool parallel, attention_bias;
  RopeSpec rope;
};

Config ReadConfig(ConfigReader& reader) {
  Config config;
  config.sizes = ReadSizes(reader, {.vocab_size = 50432,
                                    .width = 6144,
                                    .layers = 44,
                                    .heads = 64,
                                    .inner = 24576,
                                    .activation = "gelu",
                                    .tied = false});
  // Not of the class, but its rotary embedding would take it.
  const int64_t head_dim = config.sizes.head_dim;
  const int64_t given = reader.OptionalInt("head_dim", 1, kMaxWidth, head_dim);
  if (given != head_dim) {
    reader.Fail(UnsupportedField("head_dim",
                                 StrCat(head_dim, ", the width over the heads"),
                                 StrCat(given)));
  }
  config.parallel = reader.Bool("use_parallel_residual", true);
  config.attention_bias = reader.Bool("attention_bias", true);
  config.rope = ReadRope(reader, RopePairing::kHalves, config.sizes.head_dim,
                         config.sizes.positions,
                         {.base = "rotary_emb_base",
                          .partial = "rotary_pct",
                          .absent_partial = 0.25});
  return config;
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const Config& config,
                                       WeightReader& weights) {
  const int64_t width = config.sizes.width;
  const NormKind norm = {.epsilon = config.sizes.norm_epsilon};
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
  block.attention.score_divisor = config.sizes.score_divisor;
  ASSIGN_OR_RETURN(block.mlp, ReadMlp(weights, name + ".mlp.dense_h_to_4h",
                                      name + ".mlp.dense_4h_to_h", config.sizes,
                                      /*bias=*/true));
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
      .architecture = "gpt_neox",
      .vocab_size = sizes.vocab_size,
      .max_positions = sizes.positions,
      .width = sizes.width,
      .form = config.parallel ? BlockForm::kParallel : BlockForm::kPreNorm,
      .heads = GroupedHeads(sizes.heads, sizes.heads, sizes.head_dim),
      .rope = config.rope,
      .default_eos_id = 2};
  const std::string model =
      weights.PrefixOf("embed_in.weight", {"gpt_neox.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "embed_in", "", net));
  for (int64_t i = 0; i < sizes.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "layers.", i), config, weights));
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm,
                   ReadNorm(weights, model + "final_layer_norm", net.width,
                            {.epsilon = sizes.norm_epsilon}));
  ASSIGN_OR_RETURN(
      net.head, ReadHead(weights, "embed_out", net.vocab_size, net.width,
                         sizes.tied ? model + "embed_in" : "", /*bias=*/false));
  IgnoreConstants(weights);
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
