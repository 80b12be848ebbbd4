// StarCoder2 (Lozhkov et al., 2024), as transformers' modeling_starcoder2.py
// has it: grouped heads, rotary embedding by halves, a window, LayerNorm and
// biases, and an MLP without a gate.

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/arch/llama_like.h"
#include "model/config_fields.h"
#include "model/decoder/decoder.h"
#include "model/decoder/head_layouts.h"
#include "model/decoder/read_weights.h"
#include "model/decoder/rope_config.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of Starcoder2Config.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"hidden_size"},
    {"intermediate_size"},
    {"num_hidden_layers"},
    {"num_attention_heads"},
    {"num_key_value_heads"},
    {"hidden_act"},
    {"max_position_embeddings"},
    {"norm_epsilon"},
    {"rope_theta"},
    {"rope_scaling"},
    {"sliding_window"},
    {"use_bias"},
    {"tie_word_embeddings"},
    {"eos_token_id"},
    {"attention_dropout", kUnused},
    {"bos_token_id", kUnused},
    {"embedding_dropout", kUnused},
    {"initializer_range", kUnused},
    {"mlp_type", kUnused},
    {"norm_type", kUnused},
    {"pad_token_id", kUnused},
    {"residual_dropout", kUnused},
};

struct Config {
  int64_t vocab_size, positions, width, layers, heads, kv_heads, inner;
  float epsilon;
  quant::Activation activation;
  bool tied, bias;
  std::vector<int64_t> windows;
  RopeSpec rope;

  int64_t head_dim() const { return width / heads; }
};

Config ReadConfig(ConfigReader& reader) {
  Config config;
  config.vocab_size = reader.Int("vocab_size", 1, kMaxVocab, 49152);
  config.positions =
      reader.Int("max_position_embeddings", 1, kMaxPositions, 4096);
  config.width = reader.Int("hidden_size", 1, kMaxWidth, 3072);
  config.layers = reader.Int("num_hidden_layers", 1, kMaxLayers, 30);
  config.heads = reader.Int("num_attention_heads", 1, kMaxWidth, 24);
  config.kv_heads = reader.Int("num_key_value_heads", 1, kMaxWidth, 2);
  config.inner = reader.Int("intermediate_size", 1, 4 * kMaxWidth, 12288);
  config.epsilon = reader.Number("norm_epsilon", 0, 1, 1e-5);
  config.activation = reader.Activation("hidden_act", "gelu_pytorch_tanh");
  config.tied = reader.Bool("tie_word_embeddings", true);
  config.bias = reader.Bool("use_bias", true);
  config.windows = ReadWindow(reader, 0, config.layers);
  if (!reader.status().ok()) return config;
  if (config.width % config.heads != 0 || config.heads % config.kv_heads != 0) {
    reader.Fail(WrongField(
        "num_attention_heads",
        StrCat("a divisor of hidden_size = ", config.width,
               " and a multiple of num_key_value_heads = ", config.kv_heads),
        StrCat(config.heads)));
    return config;
  }
  absl::StatusOr<RopeSpec> rope = ReadRope(reader.json(), RopePairing::kHalves,
                                           config.head_dim(), config.positions);
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
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadQkv(weights,
                           {.query = name + ".self_attn.q_proj",
                            .key = name + ".self_attn.k_proj",
                            .value = name + ".self_attn.v_proj",
                            .heads = config.heads,
                            .kv_heads = config.kv_heads,
                            .head_dim = config.head_dim(),
                            .bias = config.bias},
                           width));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".self_attn.o_proj", width, width,
                              config.bias));
  block.attention.score_divisor =
      std::sqrt(static_cast<float>(config.head_dim()));
  ASSIGN_OR_RETURN(
      block.mlp_norm,
      ReadNorm(weights, name + ".post_attention_layernorm", width, norm));
  ASSIGN_OR_RETURN(block.mlp.up, ReadLinear(weights, name + ".mlp.c_fc", inner,
                                            width, config.bias));
  ASSIGN_OR_RETURN(block.mlp.down, ReadLinear(weights, name + ".mlp.c_proj",
                                              width, inner, config.bias));
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
      .architecture = "starcoder2",
      .vocab_size = config.vocab_size,
      .max_positions = config.positions,
      .width = config.width,
      .heads = SplitHeads(config.heads, config.kv_heads, config.head_dim()),
      .rope = config.rope,
      .default_eos_id = 50256};
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, "model.embed_tokens", "", net));
  for (int64_t i = 0; i < config.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat("model.layers.", i), config, weights));
    block.attention.window = config.windows[i];
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm, ReadNorm(weights, "model.norm", net.width,
                                            {.epsilon = config.epsilon}));
  ASSIGN_OR_RETURN(net.head,
                   ReadHead(weights, "lm_head", net.vocab_size, net.width,
                            config.tied ? "model.embed_tokens" : "",
                            /*bias=*/false));
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& Starcoder2() {
  static constexpr Architecture kArchitecture = {
      .name = "starcoder2",
      .models = "StarCoder2 3B, 7B, 15B",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
