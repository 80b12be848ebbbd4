// GPT-BigCode (Ben Allal et al., 2023), as transformers'
// modeling_gpt_bigcode.py has it: a GPT-2 whose heads share one key and value
// (multi_query), or else whose queries, keys and values lie head by head.

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/arch/gpt_config.h"
#include "model/decoder/decoder.h"
#include "model/decoder/head_layouts.h"
#include "model/decoder/read_weights.h"
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
    {"eos_token_id"},
    {"scale_attn_weights"},
    {"multi_query"},
    {"attn_pdrop", kUnused},
    {"bos_token_id", kUnused},
    {"embd_pdrop", kUnused},
    {"initializer_range", kUnused},
    {"pad_token_id", kUnused},
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
};

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const GptConfig& config,
                                       int64_t kv_heads,
                                       WeightReader& weights) {
  const int64_t width = config.width, inner = config.inner;
  const NormKind norm = {.epsilon = config.epsilon};
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm,
                   ReadNorm(weights, name + ".ln_1", width, norm));
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadLinear(weights, name + ".attn.c_attn",
                              width + 2 * kv_heads * config.head_dim(), width,
                              /*bias=*/true));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".attn.c_proj", width, width,
                              /*bias=*/true));
  ASSIGN_OR_RETURN(block.mlp_norm,
                   ReadNorm(weights, name + ".ln_2", width, norm));
  ASSIGN_OR_RETURN(block.mlp.up, ReadLinear(weights, name + ".mlp.c_fc", inner,
                                            width, /*bias=*/true));
  ASSIGN_OR_RETURN(block.mlp.down, ReadLinear(weights, name + ".mlp.c_proj",
                                              width, inner, /*bias=*/true));
  block.mlp.activation = config.mlp_activation;
  return block;
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  const GptConfig config =
      ReadGptConfig(reader, {.activation = "gelu_pytorch_tanh"});
  const bool scaled = reader.Bool("scale_attn_weights", true);
  const bool multi_query = reader.Bool("multi_query", true);
  RETURN_IF_ERROR(
      WithContext(reader.status(), checkpoint.folder() + "/config.json"));
  const int64_t heads = config.heads, head_dim = config.head_dim();
  DecoderDescription net = {.architecture = "gpt_bigcode",
                            .vocab_size = config.vocab_size,
                            .max_positions = config.positions,
                            .width = config.width,
                            .heads = multi_query
                                         ? SplitHeads(heads, 1, head_dim)
                                         : GroupedHeads(heads, heads, head_dim),
                            .default_eos_id = 50256};
  const std::string model =
      weights.PrefixOf("wte.weight", {"transformer.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "wte", model + "wpe", net));
  for (int64_t i = 0; i < config.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "h.", i), config,
                               multi_query ? 1 : heads, weights));
    block.attention.score_divisor =
        scaled ? std::sqrt(static_cast<float>(head_dim)) : 1;
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm, ReadNorm(weights, model + "ln_f", net.width,
                                            {.epsilon = config.epsilon}));
  ASSIGN_OR_RETURN(net.head,
                   ReadHead(weights, "lm_head", net.vocab_size, net.width,
                            config.tied ? model + "wte" : "", /*bias=*/false));
  // A constant that older releases of transformers stored.
  weights.Ignore(model + "h.*.attn.bias");
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
