// What Llama's descendants share: the keys of their configs and the names of
// their weights.
//
//   x <- x + o_proj(attention(q, k, v of input_layernorm(x)))
//   x <- x + down_proj(act(gate_proj(h)) * up_proj(h)),
//        h = post_attention_layernorm(x)               for each of model.layers
//   logits = lm_head(model.norm(x))
//
// with RMSNorm, rotary embedding by halves and grouped key and value heads.
#ifndef OUNCE_MODEL_ARCH_LLAMA_LIKE_H_
#define OUNCE_MODEL_ARCH_LLAMA_LIKE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/config_reader.h"
#include "model/decoder/decoder.h"
#include "model/decoder/read_weights.h"
#include "model/model.h"
#include "model/weights.h"
#include "quant/compute.h"

namespace ounce::model {

// Before it is read, the defaults of a config's class.
struct LlamaConfig {
  int64_t vocab_size = 32000;
  int64_t positions = 2048;
  int64_t width = 4096;
  int64_t inner = 11008;
  int64_t layers = 32;
  int64_t heads = 32;
  int64_t kv_heads = 0;  // 0: as many as heads
  int64_t head_dim = 0;  // 0: width / heads
  double epsilon = 1e-6;
  std::string activation = "silu";
  bool tied = false;
  int32_t eos_id = 2;

  // What the class decides without a key of the shared ones.
  bool qkv_bias = false;
  bool out_bias = false;
  bool mlp_bias = false;
  bool head_norms = false;  // q_norm and k_norm
  // 0 where a layer sees everything; empty: all do.
  std::vector<int64_t> windows = {};

  // Follow from the above.
  RopeSpec rope = {};
  quant::Activation mlp_activation = quant::Activation::kNone;
};

// Reads vocab_size, max_position_embeddings, hidden_size, intermediate_size,
// num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim,
// rms_norm_eps, hidden_act, tie_word_embeddings and what rope_config.h reads.
// Errors go to `reader`.
LlamaConfig ReadLlamaConfig(ConfigReader& reader, LlamaConfig defaults);

// The window of all layers by sliding_window; null is none, and so is an
// `absent` of 0.
std::vector<int64_t> ReadWindow(ConfigReader& reader, int64_t absent,
                                int64_t layers);

// The windows of layers by sliding_window, use_sliding_window,
// max_window_layers and layer_types, as Qwen2Config and its kin mean them.
std::vector<int64_t> ReadLayerWindows(ConfigReader& reader, int64_t layers);

// The network of a config; weights are asked for in `reader`. Gate and up may
// be the halves of one tensor, and q, k and v of another (Phi-3).
struct LlamaNames {
  bool fused_qkv = false;      // self_attn.qkv_proj
  bool fused_gate_up = false;  // mlp.gate_up_proj
};
absl::StatusOr<DecoderDescription> ReadLlama(std::string_view architecture,
                                             const LlamaConfig& config,
                                             const NormKind& norm,
                                             const LlamaNames& names,
                                             WeightReader& reader);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_ARCH_LLAMA_LIKE_H_
