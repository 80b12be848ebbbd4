#include "model/arch/llama_like.h"

#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/decoder/head_layouts.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

absl::StatusOr<DecoderAttention> ReadAttention(const std::string& name,
                                               const LlamaConfig& config,
                                               WeightReader& reader) {
  const DecoderSizes& sizes = config.sizes;
  DecoderAttention attention;
  attention.score_divisor = sizes.score_divisor;
  if (config.fused_qkv) {
    ASSIGN_OR_RETURN(
        attention.qkv,
        ReadLinear(reader, name + ".qkv_proj",
                   (sizes.heads + 2 * sizes.kv_heads) * sizes.head_dim,
                   sizes.width, config.qkv_bias));
  } else {
    ASSIGN_OR_RETURN(attention.qkv,
                     ReadQkv(reader, name, sizes, config.qkv_bias));
  }
  ASSIGN_OR_RETURN(attention.out,
                   ReadLinear(reader, name + ".o_proj", sizes.width,
                              sizes.heads * sizes.head_dim, config.out_bias));
  if (config.head_norms) {
    ASSIGN_OR_RETURN(
        attention.query_norm,
        ReadNorm(reader, name + ".q_norm", sizes.head_dim, config.norm));
    ASSIGN_OR_RETURN(attention.key_norm, ReadNorm(reader, name + ".k_norm",
                                                  sizes.head_dim, config.norm));
  }
  return attention;
}

absl::StatusOr<DecoderMlp> ReadMlp(const std::string& name,
                                   const LlamaConfig& config,
                                   WeightReader& reader) {
  const int64_t width = config.sizes.width, inner = config.sizes.inner;
  DecoderMlp mlp;
  mlp.activation = config.sizes.mlp_activation;
  if (config.fused_gate_up) {
    LinearSource half = {.module = name + ".gate_up_proj",
                         .rows = inner,
                         .bias = config.mlp_bias,
                         .stored_rows = 2 * inner};
    ASSIGN_OR_RETURN(mlp.gate,
                     reader.ReadLinear({&half, 1}, width, WeightRole::kLinear));
    half.first_row = inner;
    ASSIGN_OR_RETURN(mlp.up,
                     reader.ReadLinear({&half, 1}, width, WeightRole::kLinear));
  } else {
    if (config.gated) {
      ASSIGN_OR_RETURN(mlp.gate, ReadLinear(reader, name + ".gate_proj", inner,
                                            width, config.mlp_bias));
    }
    ASSIGN_OR_RETURN(
        mlp.up, ReadLinear(reader, name + (config.gated ? ".up_proj" : ".c_fc"),
                           inner, width, config.mlp_bias));
  }
  ASSIGN_OR_RETURN(
      mlp.down,
      ReadLinear(reader, name + (config.gated ? ".down_proj" : ".c_proj"),
                 width, inner, config.mlp_bias));
  return mlp;
}

}  // namespace

LlamaConfig ReadLlamaConfig(ConfigReader& reader, const DecoderSizes& defaults,
                            const SizeKeys& keys, const RopeKeys& rope_keys) {
  LlamaConfig config;
  config.sizes = ReadSizes(reader, defaults, keys);
  config.rope = ReadRope(reader, RopePairing::kHalves, config.sizes.head_dim,
                         config.sizes.positions, rope_keys);
  config.norm = {.kind = NormWeights::Kind::kRms,
                 .epsilon = config.sizes.norm_epsilon,
                 .bias = false};
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

void ReadLayerTypes(ConfigReader& reader, int64_t window,
                    std::vector<int64_t>& windows) {
  if (!IsGiven(reader.json(), "layer_types")) return;
  const nlohmann::json& types = reader.json()["layer_types"];
  if (!types.is_array() || types.size() != windows.size()) {
    reader.Fail(
        WrongField("layer_types",
                   StrCat("a list of ", windows.size(), ", one for each layer"),
                   ShortJson(types)));
    return;
  }
  for (size_t i = 0; i < windows.size(); ++i) {
    if (types[i] == "full_attention") {
      windows[i] = 0;
    } else if (types[i] == "sliding_attention" && window > 0) {
      windows[i] = window;
    } else {
      reader.Fail(UnsupportedField(
          "layer_types",
          window > 0 ? "of 'full_attention' and 'sliding_attention'"
                     : "of 'full_attention' alone without a sliding window",
          ShortJson(types[i])));
      return;
    }
  }
}

std::vector<int64_t> ReadLayerWindows(ConfigReader& reader, int64_t layers) {
  const bool use = reader.Bool("use_sliding_window", false);
  int64_t window = reader.OptionalInt("sliding_window", 1, kMaxPositions, 4096);
  const int64_t first = reader.Int("max_window_layers", 0, kMaxLayers, 28);
  const nlohmann::json& config = reader.json();
  if (!use || (config.contains("sliding_window") &&
               !IsGiven(config, "sliding_window"))) {
    window = 0;
  }
  std::vector<int64_t> windows(layers, 0);
  for (int64_t i = first; i < layers; ++i) windows[i] = window;
  ReadLayerTypes(reader, window, windows);
  return windows;
}

absl::StatusOr<std::unique_ptr<const Model>> MakeLlama(
    std::string_view architecture, const ConfigReader& config_reader,
    const LlamaConfig& config, const Checkpoint& checkpoint,
    quant::Compute compute, WeightReader& reader) {
  RETURN_IF_ERROR(
      WithContext(config_reader.status(), checkpoint.config_name()));
  const DecoderSizes& sizes = config.sizes;
  DecoderDescription net = {
      .architecture = architecture,
      .vocab_size = sizes.vocab_size,
      .max_positions = sizes.positions,
      .width = sizes.width,
      .form = BlockForm::kPreNorm,
      .heads = SplitHeads(sizes.heads, sizes.kv_heads, sizes.head_dim),
      .rope = config.rope,
      .score_soft_cap = config.score_soft_cap,
      .logit_soft_cap = config.logit_soft_cap,
      .default_eos_id = config.eos_id};
  const std::string model =
      reader.PrefixOf("layers.0.self_attn.o_proj.weight", {"model.", ""});
  net.embedding.scale = config.embedding_scale;
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(reader, model + "embed_tokens", "", net));
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const std::string name = StrCat(model, "layers.", i);
    const auto read_norm = [&](std::string_view norm) {
      return ReadNorm(reader, StrCat(name, norm), net.width, config.norm);
    };
    DecoderBlock block;
    ASSIGN_OR_RETURN(block.attention_norm, read_norm(".input_layernorm"));
    ASSIGN_OR_RETURN(block.attention,
                     ReadAttention(name + ".self_attn", config, reader));
    if (!config.windows.empty()) block.attention.window = config.windows[i];
    if (config.out_norms) {
      ASSIGN_OR_RETURN(block.attention_out_norm,
                       read_norm(".post_attention_layernorm"));
      ASSIGN_OR_RETURN(block.mlp_norm, read_norm(".pre_feedforward_layernorm"));
      ASSIGN_OR_RETURN(block.mlp_out_norm,
                       read_norm(".post_feedforward_layernorm"));
    } else {
      ASSIGN_OR_RETURN(block.mlp_norm, read_norm(".post_attention_layernorm"));
    }
    ASSIGN_OR_RETURN(block.mlp, ReadMlp(name + ".mlp", config, reader));
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm,
                   ReadNorm(reader, model + "norm", net.width, config.norm));
  ASSIGN_OR_RETURN(net.head,
                   ReadHead(reader, "lm_head", net.vocab_size, net.width,
                            sizes.tied ? model + "embed_tokens" : std::string(),
                            /*bias=*/false));
  IgnoreConstants(reader);
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace ounce::model
