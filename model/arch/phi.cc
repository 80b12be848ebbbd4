// Phi (Li et al., 2023), as transformers' modeling_phi.py has it: attention and
// MLP side by side read one norm; biases everywhere; rotary embedding by halves
// of a part of a head.

#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/decoder/decoder.h"
#include "model/decoder/head_layouts.h"
#include "model/decoder/read_weights.h"
#include "model/decoder/rope_config.h"
#include "model/decoder/sizes.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of PhiConfig.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"hidden_size"},
    {"intermediate_size"},
    {"num_hidden_layers"},
    {"num_attention_heads"},
    {"num_key_value_heads"},
    {"hidden_act"},
    {"max_position_embeddings"},
    {"layer_norm_eps"},
    {"tie_word_embeddings"},
    {"rope_theta"},
    {"rope_scaling"},
    {"partial_rotary_factor"},
    {"qk_layernorm"},
    {"head_dim"},
    {"attention_dropout", kUnused},
    {"embd_pdrop", kUnused},
    {"resid_pdrop", kUnused},
};

struct Config {
  DecoderSizes sizes;
  bool head_norms;
  RopeSpec rope;
};

Config ReadConfig(ConfigReader& reader) {
  Config config;
  config.sizes =
      ReadSizes(reader,
                {.vocab_size = 51200,
                 .width = 2048,
                 .layers = 24,
                 .heads = 32,
                 .inner = 8192,
                 .tied = false},
                {.kv_heads = "num_key_value_heads", .head_dim = "head_dim"});
  config.head_norms = reader.Bool("qk_layernorm", false);
  config.rope =
      ReadRope(reader, RopePairing::kHalves, config.sizes.head_dim,
               config.sizes.positions,
               {.partial = "partial_rotary_factor", .absent_partial = 0.5});
  return config;
}

absl::StatusOr<DecoderAttention> ReadAttention(const std::string& name,
                                               const Config& config,
                                               WeightReader& weights) {
  const DecoderSizes& sizes = config.sizes;
  const NormKind norm = {.epsilon = sizes.norm_epsilon};
  DecoderAttention attention;
  attention.score_divisor = sizes.score_divisor;
  ASSIGN_OR_RETURN(attention.qkv, ReadQkv(weights, name, sizes, /*bias=*/true));
  ASSIGN_OR_RETURN(attention.out,
                   ReadLinear(weights, name + ".dense", sizes.width,
                              sizes.heads * sizes.head_dim, /*bias=*/true));
  if (config.head_norms) {
    ASSIGN_OR_RETURN(
        attention.query_norm,
        ReadNorm(weights, name + ".q_layernorm", sizes.head_dim, norm));
    ASSIGN_OR_RETURN(
        attention.key_norm,
        ReadNorm(weights, name + ".k_layernorm", sizes.head_dim, norm));
  }
  return attention;
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const Config& config,
                                       WeightReader& weights) {
  const int64_t width = config.sizes.width;
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm,
                   ReadNorm(weights, name + ".input_layernorm", width,
                            {.epsilon = config.sizes.norm_epsilon}));
  ASSIGN_OR_RETURN(block.attention,
                   ReadAttention(name + ".self_attn", config, weights));
  ASSIGN_OR_RETURN(block.mlp,
                   ReadMlp(weights, name + ".mlp.fc1", name + ".mlp.fc2",
                           config.sizes, /*bias=*/true));
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
      .architecture = "phi",
      .vocab_size = sizes.vocab_size,
      .max_positions = sizes.positions,
      .width = sizes.width,
      .form = BlockForm::kParallel,
      .heads = SplitHeads(sizes.heads, sizes.kv_heads, sizes.head_dim),
      .rope = config.rope,
      .default_eos_id = 2};
  const std::string model =
      weights.PrefixOf("embed_tokens.weight", {"model.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "embed_tokens", "", net));
  for (int64_t i = 0; i < sizes.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "layers.", i), config, weights));
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm,
                   ReadNorm(weights, model + "final_layernorm", net.width,
                            {.epsilon = sizes.norm_epsilon}));
  ASSIGN_OR_RETURN(
      net.head,
      ReadHead(weights, "lm_head", net.vocab_size, net.width,
               sizes.tied ? model + "embed_tokens" : "", /*bias=*/true));
  IgnoreConstants(weights);
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& Phi() {
  static constexpr Architecture kArchitecture = {
      .name = "phi",
      .models = "Phi-1, Phi-1.5, Phi-2",
      .keys = kKeys,
      .takes_published_code = true,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
