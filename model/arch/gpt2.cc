// GPT-2 (Radford et al., 2019), as transformers' modeling_gpt2.py has it:
// learned positions, norms before attention and MLP, a tied head. Its linear
// layers are Conv1D, whose weights lie transposed: [inputs, outputs].

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
// Of GPT2Config.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"n_positions"},
    {"n_embd"},
    {"n_layer"},
    {"n_head"},
    {"n_inner"},
    {"activation_function"},
    {"layer_norm_epsilon"},
    {"tie_word_embeddings"},
    {"scale_attn_weights"},
    {"scale_attn_by_inverse_layer_idx"},
    {"attn_pdrop", kUnused},
    {"embd_pdrop", kUnused},
    {"resid_pdrop", kUnused},
    {"n_ctx", kUnused},
    {"reorder_and_upcast_attn", kUnused},
    {"summary_activation", kUnused},
    {"summary_first_dropout", kUnused},
    {"summary_proj_to_labels", kUnused},
    {"summary_type", kUnused},
    {"summary_use_proj", kUnused},
};

absl::StatusOr<Linear> ReadConv1D(WeightReader& weights, std::string module,
                                  int64_t rows, int64_t cols) {
  const LinearSource source = {.module = std::move(module),
                               .rows = rows,
                               .transposed = true,
                               .bias = true};
  return weights.ReadLinear({&source, 1}, cols, WeightRole::kLinear);
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const DecoderSizes& sizes,
                                       WeightReader& weights) {
  const int64_t width = sizes.width, inner = sizes.inner;
  const NormKind norm = {.epsilon = sizes.norm_epsilon};
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm,
                   ReadNorm(weights, name + ".ln_1", width, norm));
  ASSIGN_OR_RETURN(
      block.attention.qkv,
      ReadConv1D(weights, name + ".attn.c_attn", 3 * width, width));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadConv1D(weights, name + ".attn.c_proj", width, width));
  ASSIGN_OR_RETURN(block.mlp_norm,
                   ReadNorm(weights, name + ".ln_2", width, norm));
  ASSIGN_OR_RETURN(block.mlp.up,
                   ReadConv1D(weights, name + ".mlp.c_fc", inner, width));
  ASSIGN_OR_RETURN(block.mlp.down,
                   ReadConv1D(weights, name + ".mlp.c_proj", width, inner));
  block.mlp.activation = sizes.mlp_activation;
  return block;
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  const DecoderSizes sizes = ReadSizes(reader,
                                       {.vocab_size = 50257,
                                        .positions = 1024,
                                        .width = 768,
                                        .layers = 12,
                                        .heads = 12},
                                       kGptKeys);
  const bool scaled = reader.Bool("scale_attn_weights", true);
  const bool by_layer = reader.Bool("scale_attn_by_inverse_layer_idx", false);
  RETURN_IF_ERROR(WithContext(reader.status(), checkpoint.config_name()));
  DecoderDescription net = {
      .architecture = "gpt2",
      .vocab_size = sizes.vocab_size,
      .max_positions = sizes.positions,
      .width = sizes.width,
      .heads = SplitHeads(sizes.heads, sizes.heads, sizes.head_dim),
      .default_eos_id = 50256,
      .mask_buffers = {
          .bools = sizes.layers * sizes.positions * sizes.positions,
          .floats = sizes.layers}};
  // As published it has no prefix.
  const std::string model =
      weights.PrefixOf("wte.weight", {"transformer.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "wte", model + "wpe", net));
  for (int64_t i = 0; i < sizes.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "h.", i), sizes, weights));
    block.attention.score_divisor = (scaled ? sizes.score_divisor : 1) *
                                    static_cast<float>(by_layer ? i + 1 : 1);
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm, ReadNorm(weights, model + "ln_f", net.width,
                                            {.epsilon = sizes.norm_epsilon}));
  ASSIGN_OR_RETURN(net.head,
                   ReadHead(weights, "lm_head", net.vocab_size, net.width,
                            sizes.tied ? model + "wte" : "", /*bias=*/false));
  IgnoreConstants(weights);
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& Gpt2() {
  static constexpr Architecture kArchitecture = {
      .name = "gpt2",
      .models = "GPT-2, DistilGPT-2, DialoGPT, Cerebras-GPT",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
