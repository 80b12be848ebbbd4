// GPT-BigCode (Ben Allal et al., 2023), as transformers'
// modeling_gpt_bigcode.py has it: a GPT-2 whose heads share one key and value
// (multi_query), or else whose queries, keys and values lie head by head.

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
// Of GPTBigCodeConfig.
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
    {"multi_query"},
    {"attn_pdrop", kUnused},
    {"embd_pdrop", kUnused},
    {"resid_pdrop", kUnused},
    {"attention_softmax_in_fp32", kUnused},
    {"inference_runner", kUnused},
    {"max_batch_size", kUnused},
    {"max_sequence_length", kUnused},
    {"n_ctx", kUnused},
    {"pad_key_length", kUnused},
    {"pre_allocate_kv_cache", kUnused},
    {"scale_attention_softmax_in_fp32", kUnused},
    {"summary_activation", kUnused},
    {"summary_first_dropout", kUnused},
    {"summary_proj_to_labels", kUnused},
    {"summary_type", kUnused},
    {"summary_use_proj", kUnused},
    {"validate_runner_input", kUnused},
    {"num_key_value_heads", kUnused},
};

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const DecoderSizes& sizes,
                                       WeightReader& weights) {
  const int64_t width = sizes.width;
  const NormKind norm = {.epsilon = sizes.norm_epsilon};
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm,
                   ReadNorm(weights, name + ".ln_1", width, norm));
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadLinear(weights, name + ".attn.c_attn",
                              width + 2 * sizes.kv_heads * sizes.head_dim,
                              width, /*bias=*/true));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".attn.c_proj", width, width,
                              /*bias=*/true));
  ASSIGN_OR_RETURN(block.mlp_norm,
                   ReadNorm(weights, name + ".ln_2", width, norm));
  ASSIGN_OR_RETURN(block.mlp,
                   ReadMlp(weights, name + ".mlp.c_fc", name + ".mlp.c_proj",
                           sizes, /*bias=*/true));
  return block;
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  DecoderSizes sizes = ReadSizes(reader,
                                 {.vocab_size = 50257,
                                  .positions = 1024,
                                  .width = 768,
                                  .layers = 12,
                                  .heads = 12,
                                  .activation = "gelu_pytorch_tanh"},
                                 kGptKeys);
  const bool scaled = reader.Bool("scale_attn_weights", true);
  const bool multi_query = reader.Bool("multi_query", true);
  if (multi_query) sizes.kv_heads = 1;
  RETURN_IF_ERROR(WithContext(reader.status(), checkpoint.config_name()));
  DecoderDescription net = {
      .architecture = "gpt_bigcode",
      .vocab_size = sizes.vocab_size,
      .max_positions = sizes.positions,
      .width = sizes.width,
      .heads = multi_query
                   ? SplitHeads(sizes.heads, 1, sizes.head_dim)
                   : GroupedHeads(sizes.heads, sizes.heads, sizes.head_dim),
      .default_eos_id = 50256};
  const std::string model =
      weights.PrefixOf("wte.weight", {"transformer.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "wte", model + "wpe", net));
  for (int64_t i = 0; i < sizes.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "h.", i), sizes, weights));
    if (scaled) block.attention.score_divisor = sizes.score_divisor;
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

const Architecture& GptBigCode() {
  static constexpr Architecture kArchitecture = {
      .name = "gpt_bigcode",
      .models = "SantaCoder (converted), StarCoder, StarCoderBase",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
