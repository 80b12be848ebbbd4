// How large a decoder is: what the configs of all families say, under names
// that differ.
#ifndef OUNCE_MODEL_DECODER_SIZES_H_
#define OUNCE_MODEL_DECODER_SIZES_H_

#include <cstdint>
#include <string_view>

#include "model/config_reader.h"
#include "quant/matmul.h"

namespace ounce::model {

// What a config class calls its keys; "": it has none, and the default counts.
// A class that has a name of its own for one of the first four takes the usual
// one too (its attribute_map).
struct SizeKeys {
  std::string_view positions = "max_position_embeddings";
  std::string_view width = "hidden_size";
  std::string_view layers = "num_hidden_layers";
  std::string_view heads = "num_attention_heads";
  std::string_view kv_heads = "";
  std::string_view head_dim = "";
  std::string_view inner = "intermediate_size";
  std::string_view activation = "hidden_act";
  std::string_view epsilon = "layer_norm_eps";
};

// The names of GPT-2's config and of its early kin's.
inline constexpr SizeKeys kGptKeys = {.positions = "n_positions",
                                      .width = "n_embd",
                                      .layers = "n_layer",
                                      .heads = "n_head",
                                      .inner = "n_inner",
                                      .activation = "activation_function",
                                      .epsilon = "layer_norm_epsilon"};

// Before it is read, the defaults of a config's class.
struct DecoderSizes {
  int64_t vocab_size = 0;
  int64_t positions = 2048;
  int64_t width = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // 0: as many as heads, which null always means
  int64_t head_dim = 0;  // 0: width / heads
  int64_t inner = 0;     // 0: four times the width
  std::string_view activation = "gelu_new";
  double epsilon = 1e-5;
  bool tied = true;

  // Follow from the above.
  quant::Activation mlp_activation = quant::Activation::kNone;
  float norm_epsilon = 0;
  float score_divisor = 1;  // the root of head_dim
};

// Reads vocab_size, tie_word_embeddings and `keys`; errors go to `reader`.
// Where its status is OK afterwards, width is a multiple of heads unless the
// class has a head_dim of its own, heads is one of kv_heads, and heads times
// head_dim is at most kMaxInner.
DecoderSizes ReadSizes(ConfigReader& reader, DecoderSizes defaults,
                       const SizeKeys& keys = {});

}  // namespace ounce::model

#endif  // OUNCE_MODEL_DECODER_SIZES_H_
