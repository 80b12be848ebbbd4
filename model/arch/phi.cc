// Phi (Li et al., 2023), as transformers' modeling_phi.py has it: attention and
// MLP side by side read one norm; biases everywhere; rotary embedding by halves
// of a part of a head.

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
    {"eos_token_id"},
    {"attention_dropout", kUnused},
    {"bos_token_id", kUnused},
    {"embd_pdrop", kUnused},
    {"initializer_range", kUnused},
    {"pad_token_id", kUnused},
    {"resid_pdrop", kUnused},
};

struct Config {
  int64_t vocab_size, positions, width, layers, heads, kv_heads, inner;
  float epsilon;
  quant::Activation activation;
  bool tied, head_norms;
  RopeSpec rope;

  int64_t head_dim() const { return width / heads; }
};

Config ReadConfig(ConfigReader& reader) {
  Config config;
  config.vocab_size = reader.Int("vocab_size", 1, kMaxVocab, 51200);
  config.positions =
      reader.Int("max_position_embeddings", 1, kMaxPositions, 2048);
  config.width = reader.Int("hidden_size", 1, kMaxWidth, 2048);
  config.layers = reader.Int("num_hidden_layers", 1, kMaxLayers, 24);
  config.heads = reader.Int("num_attention_heads", 1, kMaxWidth, 32);
  config.kv_heads =
      reader.OptionalInt("num_key_value_heads", 1, kMaxWidth, config.heads);
  config.inner = reader.Int("intermediate_size", 1, 4 * kMaxWidth, 8192);
  config.epsilon = reader.Number("layer_norm_eps", 0, 1, 1e-5);
  config.activation = reader.Activation("hidden_act", "gelu_new");
  config.tied = reader.Bool("tie_word_embeddings", false);
  config.head_norms = reader.Bool("qk_layernorm", false);
  if (!reader.status().ok()) return config;
  if (config.width % config.heads != 0 || config.heads % config.kv_heads != 0) {
    reader.Fail(WrongField(
        "num_attention_heads",
        StrCat("a divisor of hidden_size = ", config.width,
               " and a multiple of num_key_value_heads = ", config.kv_heads),
        StrCat(config.heads)));
    return config;
  }
  absl::StatusOr<RopeSpec> rope =
      ReadRope(reader.json(), RopePairing::kHalves, config.head_dim(),
               config.positions, {.absent_partial = 0.5});
  if (rope.ok()) {
    config.rope = *std::move(rope);
  } else {
    reader.Fail(rope.status());
  }
  return config;
}

absl::StatusOr<DecoderAttention> ReadAttention(const std::string& name,
                                               const Config& config,
                                               WeightReader& weights) {
  const NormKind norm = {.epsilon = config.epsilon};
  DecoderAttention attention;
  attention.score_divisor = std::sqrt(static_cast<float>(config.head_dim()));
  ASSIGN_OR_RETURN(attention.qkv, ReadQkv(weights,
                                          {.query = name + ".q_proj",
                                           .key = name + ".k_proj",
                                           .value = name + ".v_proj",
                                           .heads = config.heads,
                                           .kv_heads = config.kv_heads,
                                           .head_dim = config.head_dim(),
                                           .bias = true},
                                          config.width));
  ASSIGN_OR_RETURN(attention.out,
                   ReadLinear(weights, name + ".dense", config.width,
                              config.width, /*bias=*/true));
  if (config.head_norms) {
    ASSIGN_OR_RETURN(
        attention.query_norm,
        ReadNorm(weights, name + ".q_layernorm", config.head_dim(), norm));
    ASSIGN_OR_RETURN(
        attention.key_norm,
        ReadNorm(weights, name + ".k_layernorm", config.head_dim(), norm));
  }
  return attention;
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const Config& config,
                                       WeightReader& weights) {
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm,
                   ReadNorm(weights, name + ".input_layernorm", config.width,
                            {.epsilon = config.epsilon}));
  ASSIGN_OR_RETURN(block.attention,
                   ReadAttention(name + ".self_attn", config, weights));
  ASSIGN_OR_RETURN(block.mlp.up,
                   ReadLinear(weights, name + ".mlp.fc1", config.inner,
                              config.width, /*bias=*/true));
  ASSIGN_OR_RETURN(block.mlp.down,
                   ReadLinear(weights, name + ".mlp.fc2", config.width,
                              config.inner, /*bias=*/true));
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
      .architecture = "phi",
      .vocab_size = config.vocab_size,
      .max_positions = config.positions,
      .width = config.width,
      .form = BlockForm::kParallel,
      .heads = SplitHeads(config.heads, config.kv_heads, config.head_dim()),
      .rope = config.rope,
      .default_eos_id = 2};
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, "model.embed_tokens", "", net));
  for (int64_t i = 0; i < config.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat("model.layers.", i), config, weights));
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm,
                   ReadNorm(weights, "model.final_layernorm", net.width,
                            {.epsilon = config.epsilon}));
  ASSIGN_OR_RETURN(net.head,
                   ReadHead(weights, "lm_head", net.vocab_size, net.width,
                            config.tied ? "model.embed_tokens" : "",
                            /*bias=*/true));
  // A constant that older releases of transformers stored.
  weights.Ignore("model.layers.*.self_attn.rotary_emb.inv_freq");
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& Phi() {
  static constexpr Architecture kArchitecture = {
      .name = "phi",
      .models = "Phi-1, Phi-1.5, Phi-2",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
