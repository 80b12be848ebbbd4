// CodeGen (Nijkamp et al., 2022), as transformers' modeling_codegen.py has it:
//
//   h = ln_1(x);  x <- x + out_proj(attention(qkv_proj(h)))
//                    + fc_out(gelu_new(fc_in(h)))             for each block
//   logits = lm_head(ln_f(x))
//
// qkv_proj and out_proj have no bias. The rows of qkv_proj lie in four blocks,
// one for each of the four TPU cores it was trained on; each has the queries,
// values and keys (in this order) of a quarter of the heads. Rotary embedding
// turns interleaved pairs of the first rotary_dim elements of a head.

#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/decoder/decoder.h"
#include "model/decoder/read_weights.h"
#include "model/decoder/rope_config.h"
#include "model/decoder/sizes.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

constexpr auto kRead = ConfigKey::Use::kRead;
constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of CodeGenConfig.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"n_positions"},
    {"n_embd"},
    {"n_layer"},
    {"n_head", kRead, "a multiple of 4"},
    {"n_inner"},
    {"activation_function"},
    {"layer_norm_epsilon"},
    {"tie_word_embeddings"},
    {"rotary_dim"},
    {"head_dim", kRead, "refused: a key of codegen2"},
    {"attn_pdrop", kUnused},
    {"embd_pdrop", kUnused},
    {"n_ctx", kUnused},
    {"resid_pdrop", kUnused},
    {"scale_attn_weights", kUnused},
    {"summary_activation", kUnused},
    {"summary_first_dropout", kUnused},
    {"summary_proj_to_labels", kUnused},
    {"summary_type", kUnused},
    {"summary_use_proj", kUnused},
};

// Groups of heads in the rows of qkv_proj, each queries, values, keys.
constexpr int64_t kQkvBlocks = 4;

AttentionLayout LayOutHeads(const DecoderSizes& sizes) {
  const int64_t heads_per_block = sizes.heads / kQkvBlocks;
  const int64_t part = heads_per_block * sizes.head_dim;
  AttentionLayout layout;
  layout.head_dim = sizes.head_dim;
  for (int64_t head = 0; head < sizes.heads; ++head) {
    const int64_t start = head / heads_per_block * 3 * part +
                          head % heads_per_block * sizes.head_dim;
    layout.query.push_back(start);
    layout.key.push_back(start + 2 * part);
    layout.value.push_back(start + part);
    layout.kv_head.push_back(static_cast<int32_t>(head));
  }
  return layout;
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const DecoderSizes& sizes,
                                       WeightReader& weights) {
  const int64_t width = sizes.width;
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm,
                   ReadNorm(weights, name + ".ln_1", width,
                            {.epsilon = sizes.norm_epsilon}));
  ASSIGN_OR_RETURN(
      block.attention.qkv,
      ReadLinear(weights, name + ".attn.qkv_proj", 3 * width, width,
                 /*bias=*/false));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, name + ".attn.out_proj", width, width,
                              /*bias=*/false));
  block.attention.score_divisor = sizes.score_divisor;
  ASSIGN_OR_RETURN(block.mlp,
                   ReadMlp(weights, name + ".mlp.fc_in", name + ".mlp.fc_out",
                           sizes, /*bias=*/true));
  return block;
}

DecoderSizes ReadConfig(ConfigReader& reader) {
  if (IsGiven(reader.json(), "head_dim")) {
    reader.Fail(absl::UnimplementedError(
        "'head_dim' is a key of codegen2, whose heads lie in 8 groups where "
        "CodeGen's lie in 4; codegen2 is not supported"));
  }
  const int64_t heads =
      reader.Int("n_head", "num_attention_heads", 1, kMaxWidth, 16);
  if (heads % kQkvBlocks != 0) {
    reader.Fail(WrongField("n_head", "a multiple of 4", StrCat(heads)));
  }
  return ReadSizes(reader,
                   {.vocab_size = 50400,
                    .width = 4096,
                    .layers = 28,
                    .heads = 16,
                    .tied = false},
                   kGptKeys);
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  const DecoderSizes sizes = ReadConfig(reader);
  const RopeSpec rope = ReadRotaryDim(reader, sizes.head_dim);
  RETURN_IF_ERROR(WithContext(reader.status(), checkpoint.config_name()));
  DecoderDescription net = {
      .architecture = "codegen",
      .vocab_size = sizes.vocab_size,
      .max_positions = sizes.positions,
      .width = sizes.width,
      .form = BlockForm::kParallel,
      .heads = LayOutHeads(sizes),
      .rope = rope,
      .default_eos_id = 50256,
      .mask_buffers = {.bools =
                           sizes.layers * sizes.positions * sizes.positions}};
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

const Architecture& CodeGen() {
  static constexpr Architecture kArchitecture = {
      .name = "codegen",
      .models = "CodeGen 350M to 16B (nl, multi, mono)",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
