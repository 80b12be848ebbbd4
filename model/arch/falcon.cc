// Falcon (Almazrouei et al., 2023), as transformers' modeling_falcon.py has it:
// attention and MLP side by side read one norm (7B) or two (40B, the new
// decoder), or follow each other (RW); one key and value head, or one for each
// group of queries, beside which it lies; rotary embedding by halves, or ALiBi.

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/decoder/alibi.h"
#include "model/decoder/decoder.h"
#include "model/decoder/head_layouts.h"
#include "model/decoder/read_weights.h"
#include "model/decoder/rope_config.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of FalconConfig.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"hidden_size"},
    {"n_embed"},
    {"num_hidden_layers"},
    {"num_attention_heads"},
    {"num_ln_in_parallel_attn"},
    {"layer_norm_epsilon"},
    {"num_kv_heads"},
    {"alibi"},
    {"new_decoder_architecture"},
    {"multi_query"},
    {"parallel_attn"},
    {"bias"},
    {"max_position_embeddings"},
    {"rope_theta"},
    {"rope_scaling"},
    {"ffn_hidden_size"},
    {"activation"},
    {"tie_word_embeddings"},
    {"eos_token_id"},
    {"apply_residual_connection_post_layernorm", kUnused},
    {"attention_dropout", kUnused},
    {"bos_token_id", kUnused},
    {"hidden_dropout", kUnused},
    {"initializer_range", kUnused},
    {"pad_token_id", kUnused},
};

struct Config {
  int64_t vocab_size, positions, width, layers, heads, kv_heads, inner;
  float epsilon;
  quant::Activation activation;
  bool tied, bias, alibi, parallel, grouped, two_norms;
  std::optional<RopeSpec> rope;

  int64_t head_dim() const { return width / heads; }
};

// Which of three ways queries, keys and values lie in, and how many norms a
// block has.
void ReadForm(ConfigReader& reader, Config& config) {
  const bool new_decoder = reader.Bool("new_decoder_architecture", false);
  const bool multi_query = reader.Bool("multi_query", true);
  config.parallel = reader.Bool("parallel_attn", true);
  const int64_t kv_heads =
      reader.OptionalInt("num_kv_heads", 1, kMaxWidth, config.heads);
  const int64_t norms =
      reader.OptionalInt("num_ln_in_parallel_attn", 1, 2, new_decoder ? 2 : 1);
  config.grouped = new_decoder || !multi_query;
  config.kv_heads = new_decoder ? kv_heads : multi_query ? 1 : config.heads;
  config.two_norms = norms == 2;
  if (!reader.status().ok()) return;
  if (new_decoder && !config.parallel) {
    reader.Fail(UnsupportedField(
        "parallel_attn", "true with new_decoder_architecture", "false"));
  } else if (!new_decoder && norms != 1) {
    reader.Fail(UnsupportedField("num_ln_in_parallel_attn",
                                 "1 without new_decoder_architecture",
                                 StrCat(norms)));
  } else if (config.width % config.heads != 0 ||
             config.heads % config.kv_heads != 0) {
    reader.Fail(WrongField(
        "num_attention_heads",
        StrCat("a divisor of hidden_size = ", config.width,
               " and a multiple of num_kv_heads = ", config.kv_heads),
        StrCat(config.heads)));
  }
}

Config ReadConfig(ConfigReader& reader) {
  Config config;
  config.vocab_size = reader.Int("vocab_size", 1, kMaxVocab, 65024);
  config.positions =
      reader.Int("max_position_embeddings", 1, kMaxPositions, 2048);
  config.width = reader.Int("hidden_size", "n_embed", 1, kMaxWidth, 4544);
  config.layers = reader.Int("num_hidden_layers", 1, kMaxLayers, 32);
  config.heads = reader.Int("num_attention_heads", 1, kMaxWidth, 71);
  config.inner =
      reader.OptionalInt("ffn_hidden_size", 1, 4 * kMaxWidth, 4 * config.width);
  config.epsilon = reader.Number("layer_norm_epsilon", 0, 1, 1e-5);
  config.activation = reader.Activation("activation", "gelu");
  config.tied = reader.Bool("tie_word_embeddings", true);
  config.bias = reader.Bool("bias", false);
  config.alibi = reader.Bool("alibi", false);
  ReadForm(reader, config);
  if (!reader.status().ok() || config.alibi) return config;
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
  ASSIGN_OR_RETURN(
      block.attention_norm,
      ReadNorm(weights,
               name + (config.two_norms ? ".ln_attn" : ".input_layernorm"),
               width, norm));
  if (config.two_norms || !config.parallel) {
    ASSIGN_OR_RETURN(
        block.mlp_norm,
        ReadNorm(
            weights,
            name + (config.two_norms ? ".ln_mlp" : ".post_attention_layernorm"),
            width, norm));
  }
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadLinear(weights, name + ".self_attention.query_key_value",
                              width + 2 * config.kv_heads * config.head_dim(),
                              width, config.bias));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".self_attention.dense", width,
                              width, config.bias));
  block.attention.score_divisor =
      std::sqrt(static_cast<float>(config.head_dim()));
  ASSIGN_OR_RETURN(block.mlp.up,
                   ReadLinear(weights, name + ".mlp.dense_h_to_4h", inner,
                              width, config.bias));
  ASSIGN_OR_RETURN(block.mlp.down,
                   ReadLinear(weights, name + ".mlp.dense_4h_to_h", width,
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
  const int64_t heads = config.heads, head_dim = config.head_dim();
  DecoderDescription net = {
      .architecture = "falcon",
      .vocab_size = config.vocab_size,
      .max_positions = config.positions,
      .width = config.width,
      .form = config.parallel ? BlockForm::kParallel : BlockForm::kPreNorm,
      .heads = config.grouped ? GroupedHeads(heads, config.kv_heads, head_dim)
                              : SplitHeads(heads, config.kv_heads, head_dim),
      .rope = config.rope,
      .default_eos_id = 11};
  if (config.alibi) {
    net.position_bias = FalconAlibiBias(
        heads, config.positions, std::sqrt(static_cast<float>(head_dim)));
  }
  const std::string model =
      weights.PrefixOf("word_embeddings.weight", {"transformer.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "word_embeddings", "", net));
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

const Architecture& Falcon() {
  static constexpr Architecture kArchitecture = {
      .name = "falcon",
      .models = "Falcon 7B, 40B, 180B, RW 1B and 7B",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
