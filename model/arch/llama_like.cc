#include "model/arch/llama_like.h"

#include <cmath>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/decoder/head_layouts.h"
#include "model/decoder/rope_config.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

absl::StatusOr<DecoderAttention> ReadAttention(const std::string& name,
                                               const LlamaConfig& config,
                                               const NormKind& norm,
                                               const LlamaNames& names,
                                               WeightReader& reader) {
  DecoderAttention attention;
  attention.score_divisor = std::sqrt(static_cast<float>(config.head_dim));
  if (names.fused_qkv) {
    ASSIGN_OR_RETURN(
        attention.qkv,
        ReadLinear(reader, name + ".qkv_proj",
                   (config.heads + 2 * config.kv_heads) * config.head_dim,
                   config.width, config.qkv_bias));
  } else {
    ASSIGN_OR_RETURN(attention.qkv, ReadQkv(reader,
                                            {.query = name + ".q_proj",
                                             .key = name + ".k_proj",
                                             .value = name + ".v_proj",
                                             .heads = config.heads,
                                             .kv_heads = config.kv_heads,
                                             .head_dim = config.head_dim,
                                             .bias = config.qkv_bias},
                                            config.width));
  }
  ASSIGN_OR_RETURN(attention.out,
                   ReadLinear(reader, name + ".o_proj", config.width,
                              config.heads * config.head_dim, config.out_bias));
  if (config.head_norms) {
    ASSIGN_OR_RETURN(attention.query_norm,
                     ReadNorm(reader, name + ".q_norm", config.head_dim, norm));
    ASSIGN_OR_RETURN(attention.key_norm,
                     ReadNorm(reader, name + ".k_norm", config.head_dim, norm));
  }
  return attention;
}

absl::StatusOr<DecoderMlp> ReadMlp(const std::string& name,
                                   const LlamaConfig& config,
                                   const LlamaNames& names,
                                   WeightReader& reader) {
  DecoderMlp mlp;
  mlp.activation = config.mlp_activation;
  if (names.fused_gate_up) {
    LinearSource half = {.module = name + ".gate_up_proj",
                         .rows = config.inner,
                         .bias = config.mlp_bias,
                         .stored_rows = 2 * config.inner};
    ASSIGN_OR_RETURN(mlp.gate, reader.ReadLinear({&half, 1}, config.width,
                                                 WeightRole::kLinear));
    half.first_row = config.inner;
    ASSIGN_OR_RETURN(mlp.up, reader.ReadLinear({&half, 1}, config.width,
                                               WeightRole::kLinear));
  } else {
    ASSIGN_OR_RETURN(mlp.gate,
                     ReadLinear(reader, name + ".gate_proj", config.inner,
                                config.width, config.mlp_bias));
    ASSIGN_OR_RETURN(mlp.up, ReadLinear(reader, name + ".up_proj", config.inner,
                                        config.width, config.mlp_bias));
  }
  ASSIGN_OR_RETURN(mlp.down,
                   ReadLinear(reader, name + ".down_proj", config.width,
                              config.inner, config.mlp_bias));
  return mlp;
}

}  // namespace

LlamaConfig ReadLlamaConfig(ConfigReader& reader, LlamaConfig config) {
  config.vocab_size = reader.Int("vocab_size", 1, kMaxVocab, config.vocab_size);
  config.positions =
      reader.Int("max_position_embeddings", 1, kMaxPositions, config.positions);
  config.width = reader.Int("hidden_size", 1, kMaxWidth, config.width);
  config.inner = reader.Int("intermediate_size", 1, kMaxWidth, config.inner);
  config.layers = reader.Int("num_hidden_layers", 1, kMaxLayers, config.layers);
  config.heads = reader.Int("num_attention_heads", 1, kMaxWidth, config.heads);
  // null is as many as heads, whatever the class's default.
  const bool has_default =
      config.kv_heads != 0 && !reader.json().contains("num_key_value_heads");
  config.kv_heads =
      reader.OptionalInt("num_key_value_heads", 1, kMaxWidth,
                         has_default ? config.kv_heads : config.heads);
  config.head_dim = reader.OptionalInt(
      "head_dim", 1, kMaxWidth,
      config.head_dim == 0 ? config.width / config.heads : config.head_dim);
  config.epsilon = reader.Number("rms_norm_eps", 0, 1, config.epsilon);
  config.mlp_activation = reader.Activation("hidden_act", config.activation);
  config.tied = reader.Bool("tie_word_embeddings", config.tied);
  if (!reader.status().ok()) return config;

  if (config.heads % config.kv_heads != 0) {
    reader.Fail(WrongField(
        "num_attention_heads",
        StrCat("a multiple of num_key_value_heads = ", config.kv_heads),
        StrCat(config.heads)));
    return config;
  }
  absl::StatusOr<RopeSpec> rope = ReadRope(reader.json(), RopePairing::kHalves,
                                           config.head_dim, config.positions);
  if (!rope.ok()) {
    reader.Fail(rope.status());
    return config;
  }
  config.rope = *std::move(rope);
  return config;
}

std::vector<int64_t> ReadWindow(ConfigReader& reader, int64_t absent,
                                int64_t layers) {
  const int64_t window = reader.OptionalInt("sliding_window", 1, kMaxPositions,
                                            absent == 0 ? 1 : absent);
  const auto found = reader.json().find("sliding_window");
  const bool none =
      found == reader.json().end() ? absent == 0 : found->is_null();
  return std::vector<int64_t>(layers, none ? 0 : window);
}

std::vector<int64_t> ReadLayerWindows(ConfigReader& reader, int64_t layers) {
  const bool use = reader.Bool("use_sliding_window", false);
  const int64_t window =
      reader.OptionalInt("sliding_window", 1, kMaxPositions, 4096);
  const int64_t first = reader.Int("max_window_layers", 0, kMaxLayers, 28);
  const nlohmann::json& config = reader.json();
  const bool has_window = use && (!config.contains("sliding_window") ||
                                  IsGiven(config, "sliding_window"));
  std::vector<int64_t> windows(layers, 0);
  for (int64_t i = 0; has_window && i < layers; ++i) {
    if (i >= first) windows[i] = window;
  }
  if (!IsGiven(config, "layer_types")) return windows;

  const nlohmann::json& types = config["layer_types"];
  if (!types.is_array() || static_cast<int64_t>(types.size()) != layers) {
    reader.Fail(WrongField("layer_types",
                           StrCat("a list of ", layers, ", one for each layer"),
                           ShortJson(types)));
    return windows;
  }
  for (int64_t i = 0; i < layers; ++i) {
    if (types[i] == "full_attention") {
      windows[i] = 0;
    } else if (types[i] == "sliding_attention" && has_window) {
      windows[i] = window;
    } else {
      reader.Fail(UnsupportedField(
          "layer_types",
          has_window ? "of 'full_attention' and 'sliding_attention'"
                     : "of 'full_attention' alone without a sliding window",
          ShortJson(types[i])));
      return windows;
    }
  }
  return windows;
}

absl::StatusOr<DecoderDescription> ReadLlama(std::string_view architecture,
                                             const LlamaConfig& config,
                                             const NormKind& norm,
                                             const LlamaNames& names,
                                             WeightReader& reader) {
  DecoderDescription net = {
      .architecture = architecture,
      .vocab_size = config.vocab_size,
      .max_positions = config.positions,
      .width = config.width,
      .form = BlockForm::kPreNorm,
      .heads = SplitHeads(config.heads, config.kv_heads, config.head_dim),
      .rope = config.rope,
      .default_eos_id = config.eos_id};
  const std::string model = reader.PrefixOf("norm.weight", {"model.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(reader, model + "embed_tokens", "", net));
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string name = StrCat(model, "layers.", i);
    DecoderBlock block;
    ASSIGN_OR_RETURN(
        block.attention_norm,
        ReadNorm(reader, name + ".input_layernorm", net.width, norm));
    ASSIGN_OR_RETURN(block.attention, ReadAttention(name + ".self_attn", config,
                                                    norm, names, reader));
    if (!config.windows.empty()) block.attention.window = config.windows[i];
    ASSIGN_OR_RETURN(
        block.mlp_norm,
        ReadNorm(reader, name + ".post_attention_layernorm", net.width, norm));
    ASSIGN_OR_RETURN(block.mlp, ReadMlp(name + ".mlp", config, names, reader));
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm,
                   ReadNorm(reader, model + "norm", net.width, norm));
  ASSIGN_OR_RETURN(
      net.head, ReadHead(reader, "lm_head", net.vocab_size, net.width,
                         config.tied ? model + "embed_tokens" : std::string(),
                         /*bias=*/false));
  // Constants that older releases of transformers stored.
  reader.Ignore("*.rotary_emb.inv_freq");
  return net;
}

}  // namespace ounce::model
