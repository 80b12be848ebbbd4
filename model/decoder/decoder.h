// The network that all causal language models share, run from a description:
//
//   x = embeddings of the tokens (and of their positions)
//   x <- block(x)                                     for each block
//   logits = head(norm(x))                            of the rows asked for
//
// An architecture (model/arch/) says what its config means and what its weights
// are called, and fills in a DecoderDescription. What a block does is one of
// BlockForm.
#ifndef OUNCE_MODEL_DECODER_DECODER_H_
#define OUNCE_MODEL_DECODER_DECODER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/decoder/alibi.h"
#include "model/layers/attention.h"
#include "model/layers/linear.h"
#include "model/layers/norm.h"
#include "model/layers/rope.h"
#include "model/mask_buffers.h"
#include "model/model.h"
#include "quant/compute.h"
#include "quant/matmul.h"

namespace ounce::model {

// x of width W; n1 and n2 are the norms of attention and MLP.
enum class BlockForm {
  // x <- x + attention(n1(x));  x <- x + mlp(n2(x))           (GPT-2, Llama)
  kPreNorm,
  // x <- n1(x + attention(x));  x <- n2(x + mlp(x))           (OPT-350m)
  kPostNorm,
  // x <- n1(x); x <- x + attention(x);  x <- n2(x); x <- x + mlp(x)
  // (BLOOM's apply_residual_connection_post_layernorm)
  kNormedResidual,
  // x <- x + attention(n1(x)) + mlp(n2(x)); without an n2 the MLP reads n1(x)
  // (CodeGen, GPT-NeoX, Falcon)
  kParallel,
};

struct DecoderAttention {
  Linear qkv =
      {};  // its columns are laid out as DecoderDescription::heads says
  Linear out = {};
  // Of each query and key head before it is turned.
  std::optional<NormWeights> query_norm = {};
  std::optional<NormWeights> key_norm = {};
  float score_divisor = 1;
  int64_t window =
      0;  // a token sees itself and so many less one before; 0: all
};

// down(activation(up(x))), or with a gate down(activation(gate(x)) * up(x)).
struct DecoderMlp {
  std::optional<Linear> gate = {};
  Linear up = {};
  Linear down = {};
  quant::Activation activation = quant::Activation::kNone;
};

struct DecoderBlock {
  NormWeights attention_norm = {};
  std::optional<NormWeights> mlp_norm = {};  // absent: kParallel's shared one
  // Of what attention and the MLP add to x, before they do.
  std::optional<NormWeights> attention_out_norm = {};
  std::optional<NormWeights> mlp_out_norm = {};
  DecoderAttention attention = {};
  DecoderMlp mlp = {};
};

struct DecoderEmbedding {
  SharedWeight tokens = {};  // [vocab_size, cols]
  std::string tokens_module = {};
  int64_t cols = 0;  // other than the network's width only with project_in
  float scale = 1;
  std::optional<Linear> project_in = {};  // [width, cols]
  // Learned positions are added: rows [position_offset, + max_positions) of
  // `positions`, each of the network's width.
  bool has_positions = false;
  SharedWeight positions = {};
  std::string positions_module = {};
  int64_t position_offset = 0;
  std::optional<NormWeights> norm = {};  // of the sum
};

struct DecoderDescription {
  std::string_view architecture = {};
  int64_t vocab_size = 0;
  int64_t max_positions = 0;
  int64_t width = 0;
  BlockForm form = BlockForm::kPreNorm;
  AttentionLayout heads = {};
  RopeSpec rope = {};
  AlibiForm alibi = AlibiForm::kNone;
  // c: a value becomes c * tanh(value / c); 0: none.
  float score_soft_cap = 0;
  float logit_soft_cap = 0;

  DecoderEmbedding embedding = {};
  std::vector<DecoderBlock> blocks = {};
  std::optional<NormWeights> final_norm = {};
  std::optional<Linear> project_out = {};  // between the norm and the head
  Linear head = {};                        // [vocab_size, ...]

  // What ends a generation where neither generation_config.json nor config.json
  // has an eos_token_id: the default of the config's class; none if negative.
  int32_t default_eos_id = -1;

  MaskBuffers mask_buffers = {};
};

// The model of a description; EOS ids and defaults of generation are read from
// `checkpoint`.
// Errors: kInvalidArgument for those, naming the file.
absl::StatusOr<std::unique_ptr<const Model>> MakeDecoder(
    const Checkpoint& checkpoint, quant::Compute compute,
    DecoderDescription description);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_DECODER_DECODER_H_
