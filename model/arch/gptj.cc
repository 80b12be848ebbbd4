// GPT-J (Wang and Komatsuzaki, 2021), as transformers' modeling_gptj.py has it:
// CodeGen with q, k and v in matrices of their own.

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
// Of GPTJConfig.
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
    {"rotary_dim"},
    {"attn_pdrop", kUnused},
    {"embd_pdrop", kUnused},
    {"resid_pdrop", kUnused},
    {"scale_attn_weights", kUnused},
    {"summary_activation", kUnused},
    {"summary_first_dropout", kUnused},
    {"summary_proj_to_labels", kUnused},
    {"summary_type", kUnused},
    {"summary_use_proj", kUnused},
};

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const DecoderSizes& sizes,
                                       WeightReader& weights) {
  const int64_t width = sizes.width;
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm,
                   ReadNorm(weights, name + ".ln_1", width,
                            {.epsilon = sizes.norm_epsilon}));
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadQkv(weights, name + ".attn", sizes, /*bias=*/false));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".attn.out_proj", width, width,
                              /*bias=*/false));
  block.attention.score_divisor = sizes.score_divisor;
  ASSIGN_OR_RETURN(block.mlp,
                   ReadMlp(weights, name + ".mlp.fc_in", name + ".mlp.fc_out",
                           sizes, /*bias=*/true));
  return block;
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  const DecoderSizes sizes = ReadSizes(reader,
                                       {.vocab_size = 50400,
                                        .width = 4096,
                                        .layers = 28,
                                        .heads = 16,
                                        .tied = false},
                                       kGptKeys);
  const RopeSpec rope = ReadRotaryDim(reader, sizes.head_dim);
  RETURN_IF_ERROR(WithContext(reader.status(), checkpoint.config_name()));
  DecoderDescription net = {
      .architecture = "gptj",
      .vocab_size = sizes.vocab_size,
      .max_positions = sizes.positions,
      .width = sizes.width,
      .form = BlockForm::kParallel,
      .heads = SplitHeads(sizes.heads, sizes.heads, sizes.head_dim),
      .rope = rope,
      .default_eos_id = 50256};
  const std::string model =
      weights.PrefixOf("wte.weight", {"transformer.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "wte", "", net));
  for (int64_t i = 0; i < sizes.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "h.", i), sizes, weights));
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm, ReadNorm(weights, model + "ln_f", net.width,
                                            {.epsilon = sizes.norm_epsilon}));
  ASSIGN_OR_RETURN(net.head,
                   ReadHead(weights, "lm_head", net.vocab_size, net.width,
                            sizes.tied ? model + "wte" : "", /*bias=*/true));
  IgnoreConstants(weights);
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& GptJ() {
  static constexpr Architecture kArchitecture = {
      .name = "gptj", .models = "GPT-J 6B", .keys = kKeys, .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
