#include "model/decoder/read_weights.h"

#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::model {

absl::StatusOr<DecoderEmbedding> ReadEmbeddings(WeightReader& reader,
                                                std::string_view tokens,
                                                std::string_view positions,
                                                const DecoderDescription& net) {
  DecoderEmbedding embedding = net.embedding;
  if (embedding.cols == 0) embedding.cols = net.width;
  embedding.tokens_module = std::string(tokens);
  embedding.positions_module = std::string(positions);
  ASSIGN_OR_RETURN(embedding.tokens,
                   reader.Matrix(tokens, net.vocab_size, embedding.cols,
                                 WeightRole::kEmbedding));
  if (positions.empty()) return embedding;
  embedding.has_positions = true;
  ASSIGN_OR_RETURN(
      embedding.positions,
      reader.Matrix(positions, net.max_positions + embedding.position_offset,
                    net.width, WeightRole::kEmbedding));
  return embedding;
}

absl::StatusOr<Linear> ReadQkv(WeightReader& reader, std::string_view attention,
                               const DecoderSizes& sizes, bool bias) {
  const int64_t kv_rows = sizes.kv_heads * sizes.head_dim;
  const LinearSource sources[] = {
      {.module = StrCat(attention, ".q_proj"),
       .rows = sizes.heads * sizes.head_dim,
       .bias = bias},
      {.module = StrCat(attention, ".k_proj"), .rows = kv_rows, .bias = bias},
      {.module = StrCat(attention, ".v_proj"), .rows = kv_rows, .bias = bias}};
  return reader.ReadLinear(sources, sizes.width, WeightRole::kLinear);
}

absl::StatusOr<DecoderMlp> ReadMlp(WeightReader& reader, std::string_view up,
                                   std::string_view down,
                                   const DecoderSizes& sizes, bool bias) {
  DecoderMlp mlp;
  mlp.activation = sizes.mlp_activation;
  ASSIGN_OR_RETURN(mlp.up,
                   ReadLinear(reader, up, sizes.inner, sizes.width, bias));
  ASSIGN_OR_RETURN(mlp.down,
                   ReadLinear(reader, down, sizes.width, sizes.inner, bias));
  return mlp;
}

absl::StatusOr<Linear> ReadHead(WeightReader& reader, std::string_view module,
                                int64_t vocab_size, int64_t cols,
                                std::string_view tied_to, bool bias) {
  if (tied_to.empty()) {
    const LinearSource head = {
        .module = std::string(module), .rows = vocab_size, .bias = bias};
    return reader.ReadLinear({&head, 1}, cols, WeightRole::kHead);
  }
  ASSIGN_OR_RETURN(SharedWeight weight, reader.Tied(module, tied_to));
  std::vector<float> bias_values;
  if (bias) {
    ASSIGN_OR_RETURN(bias_values,
                     reader.LogitBias(StrCat(module, ".bias"), vocab_size));
  }
  return Linear({{.rows = vocab_size,
                  .weight = std::move(weight),
                  .modules = {std::string(module)}}},
                cols, std::move(bias_values));
}

void IgnoreConstants(WeightReader& reader) {
  for (const char* glob :
       {"*.attn.bias", "*.attn.masked_bias", "*.attn.causal_mask",
        "*.attention.bias", "*.attention.masked_bias",
        "*.rotary_emb.inv_freq"}) {
    reader.Ignore(glob);
  }
}

}  // namespace ounce::model
