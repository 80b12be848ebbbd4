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

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/arch/codegen_config.h"
#include "model/decoder/decoder.h"
#include "model/decoder/read_weights.h"
#include "model/registry.h"

namespace ounce::model {
namespace {

AttentionLayout LayOutHeads(const CodeGenConfig& config) {
  const int64_t heads_per_block = config.heads / CodeGenConfig::kQkvBlocks;
  const int64_t part = heads_per_block * config.head_dim();
  AttentionLayout layout;
  layout.head_dim = config.head_dim();
  for (int64_t head = 0; head < config.heads; ++head) {
    const int64_t start = head / heads_per_block * 3 * part +
                          head % heads_per_block * config.head_dim();
    layout.query.push_back(start);
    layout.key.push_back(start + 2 * part);
    layout.value.push_back(start + part);
    layout.kv_head.push_back(static_cast<int32_t>(head));
  }
  return layout;
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const CodeGenConfig& config,
                                       WeightReader& reader) {
  const int64_t width = config.width, inner = config.inner;
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm, ReadNorm(reader, name + ".ln_1", width,
                                                  {.epsilon = config.epsilon}));
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadLinear(reader, name + ".attn.qkv_proj", 3 * width, width,
                              /*bias=*/false));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(reader, name + ".attn.out_proj", width, width,
                              /*bias=*/false));
  block.attention.score_divisor =
      std::sqrt(static_cast<float>(config.head_dim()));
  ASSIGN_OR_RETURN(block.mlp.up, ReadLinear(reader, name + ".mlp.fc_in", inner,
                                            width, /*bias=*/true));
  ASSIGN_OR_RETURN(block.mlp.down, ReadLinear(reader, name + ".mlp.fc_out",
                                              width, inner, /*bias=*/true));
  block.mlp.activation = quant::Activation::kGeluTanh;
  return block;
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& reader) {
  const absl::StatusOr<CodeGenConfig> config =
      ReadCodeGenConfig(checkpoint.config());
  RETURN_IF_ERROR(
      WithContext(config.status(), checkpoint.folder() + "/config.json"));
  DecoderDescription net = {.architecture = "codegen",
                            .vocab_size = config->vocab_size,
                            .max_positions = config->positions,
                            .width = config->width,
                            .form = BlockForm::kParallel,
                            .heads = LayOutHeads(*config),
                            .rope = RopeSpec{.rotary_dim = config->rotary_dim,
                                             .frequencies = RopeFrequencies(
                                                 config->rotary_dim, 10000)},
                            .default_eos_id = 50256};
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(reader, "transformer.wte", "", net));
  for (int64_t i = 0; i < config->layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat("transformer.h.", i), *config, reader));
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm,
                   ReadNorm(reader, "transformer.ln_f", net.width,
                            {.epsilon = config->epsilon}));
  ASSIGN_OR_RETURN(
      net.head, ReadHead(reader, "lm_head", net.vocab_size, net.width,
                         config->tied ? "transformer.wte" : "", /*bias=*/true));
  // Constants that older releases of transformers stored.
  reader.Ignore("transformer.h.*.attn.causal_mask");
  reader.Ignore("transformer.h.*.attn.masked_bias");
  reader.Ignore("transformer.h.*.attn.bias");
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& CodeGen() {
  static constexpr Architecture kArchitecture = {.name = "codegen",
                                                 .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
