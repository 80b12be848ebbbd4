// Falcon (Almazrouei et al., 2023), as transformers' modeling_falcon.py has it:
// attention and MLP side by side read one norm (7B) or two (40B, the new
// decoder), or follow each other (RW); one key and value head, or one for each
// group of queries, beside which it lies; rotary embedding by halves, or ALiBi.

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
#include "model/decoder/rope_config.h"
#include "model/decoder/sizes.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kRead = ConfigKey::Use::kRead;
constexpr auto kMustBe = ConfigKey::Use::kMustBe;
constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of FalconConfig.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"hidden_size"},
    {"n_embed"},
    {"num_hidden_layers"},
    {"num_attention_heads"},
    {"num_ln_in_parallel_attn", kRead, "1 without new_decoder_architecture"},
    {"layer_norm_epsilon"},
    {"num_kv_heads"},
    {"alibi"},
    {"new_decoder_architecture"},
    {"multi_query"},
    {"parallel_attn", kRead, "true with new_decoder_architecture"},
    {"bias"},
    {"max_position_embeddings"},
    {"rope_theta"},
    {"rope_scaling"},
    {"ffn_hidden_size"},
    {"activation"},
    {"tie_word_embeddings"},
    {"partial_rotary_factor", kMustBe, "1"},
    {"apply_residual_connection_post_layernorm", kUnused},
    {"attention_dropout", kUnused},
    {"hidden_dropout", kUnused},
};

struct Config {
  DecoderSizes sizes;
  bool bias, alibi, parallel, grouped, two_norms;
  RopeSpec rope;  // without alibi
};

// Which of three ways queries, keys and values lie in, and how many norms a
// block has.
void ReadForm(ConfigReader& reader, Config& config) {
  const bool new_decoder = reader.Bool("new_decoder_architecture", false);
  const bool multi_query = reader.Bool("multi_query", true);
  config.parallel = reader.Bool("parallel_attn", true);
  const int64_t heads = config.sizes.heads;
  const int64_t kv_heads =
      reader.OptionalInt("num_kv_heads", 1, kMaxWidth, heads);
  const int64_t norms =
      reader.OptionalInt("num_ln_in_parallel_attn", 1, 2, new_decoder ? 2 : 1);
  config.grouped = new_decoder || !multi_query;
  config.sizes.kv_heads = new_decoder ? kv_heads : multi_query ? 1 : heads;
  config.two_norms = norms == 2;
  reader.CheckMultiple("num_attention_heads", heads, "num_kv_heads",
                       config.sizes.kv_heads);
  if (new_decoder && !config.parallel) {
    reader.Fail(UnsupportedField(
        "parallel_attn", "true with new_decoder_architecture", "false"));
  } else if (!new_decoder && norms != 1) {
    reader.Fail(UnsupportedField("num_ln_in_parallel_attn",
                                 "1 without new_decoder_architecture",
                                 StrCat(norms)));
  }
}

Config ReadConfig(ConfigReader& reader) {
  Config config;
  config.sizes = ReadSizes(reader,
                           {.vocab_size = 65024,
                            .width = 4544,
                            .layers = 32,
                            .heads = 71,
                            .activation = "gelu"},
                           {.width = "n_embed",
                            .inner = "ffn_hidden_size",
                            .activation = "activation",
                            .epsilon = "layer_norm_epsilon"});
  config.bias = reader.Bool("bias", false);
  config.alibi = reader.Bool("alibi", false);
  ReadForm(reader, config);
  if (config.alibi) {
    CheckAlibi(reader, config.sizes);
  } else {
    config.rope = ReadRope(reader, RopePairing::kHalves, config.sizes.head_dim,
                           config.sizes.positions);
  }
  return config;
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const Config& config,
                                       WeightReader& weights) {
  const DecoderSizes& sizes = config.sizes;
  const int64_t width = sizes.width;
  const NormKind norm = {.epsilon = sizes.norm_epsilon};
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
                              width + 2 * sizes.kv_heads * sizes.head_dim,
                              width, config.bias));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".self_attention.dense", width,
                              width, config.bias));
  block.attention.score_divisor = sizes.score_divisor;
  ASSIGN_OR_RETURN(block.mlp,
                   ReadMlp(weights, name + ".mlp.dense_h_to_4h",
                           name + ".mlp.dense_4h_to_h", sizes, config.bias));
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
      .architecture = "falcon",
      .vocab_size = sizes.vocab_size,
      .max_positions = sizes.positions,
      .width = sizes.width,
      .form = config.parallel ? BlockForm::kParallel : BlockForm::kPreNorm,
      .heads = config.grouped
                   ? GroupedHeads(sizes.heads, sizes.kv_heads, sizes.head_dim)
                   : SplitHeads(sizes.heads, sizes.kv_heads, sizes.head_dim),
      .default_eos_id = 11};
  if (config.alibi) {
    net.alibi = AlibiForm::kFalcon;
  } else {
    net.rope = config.rope;
  }
  const std::string model =
      weights.PrefixOf("word_embeddings.weight", {"transformer.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "word_embeddings", "", net));
  for (int64_t i = 0; i < sizes.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "h.", i), config, weights));
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

const Architecture& Falcon() {
  static constexpr Architecture kArchitecture = {
      .name = "falcon",
      .models = "Falcon 7B, 11B, 40B, 180B, RW 1B and 7B",
      .keys = kKeys,
      .takes_published_code = true,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
