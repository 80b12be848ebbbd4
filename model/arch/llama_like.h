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
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/config_reader.h"
#include "model/decoder/decoder.h"
#include "model/decoder/read_weights.h"
#include "model/decoder/rope_config.h"
#include "model/decoder/sizes.h"
#include "model/model.h"
#include "model/weights.h"
#include "quant/compute.h"

namespace ounce::model {

struct LlamaConfig {
  DecoderSizes sizes = {};
  RopeSpec rope = {};
  NormKind norm = {};
  // 0 where a layer sees everything; empty: all do.
  std::vector<int64_t> windows = {};
  float score_soft_cap = 0;  // as DecoderDescription's
  float logit_soft_cap = 0;
  bool qkv_bias = false;
  bool out_bias = false;
  bool mlp_bias = false;
  bool head_norms = false;  // q_norm and k_norm
  // post_attention_layernorm is of what attention adds, and there are
  // pre_feedforward_layernorm and post_feedforward_layernorm.
  bool out_norms = false;
  bool fused_qkv = false;      // self_attn.qkv_proj, one tensor
  bool fused_gate_up = false;  // mlp.gate_up_proj, one below the other
  // Without a gate the MLP is c_proj(act(c_fc(h))).
  bool gated = true;
  float embedding_scale = 1;
  int32_t eos_id = 2;  // DecoderDescription::default_eos_id
};

inline constexpr SizeKeys kLlamaKeys = {.kv_heads = "num_key_value_heads",
                                        .head_dim = "head_dim",
                                        .epsilon = "rms_norm_eps"};

// Reads `keys`, vocab_size, tie_word_embeddings and what rope_config.h reads.
// Errors go to `reader`.
LlamaConfig ReadLlamaConfig(ConfigReader& reader, const DecoderSizes& defaults,
                            const SizeKeys& keys = kLlamaKeys,
                            const RopeKeys& rope_keys = {});

// The window of all layers by sliding_window; null is none, and so is an
// `absent` of 0.
std::vector<int64_t> ReadWindow(ConfigReader& reader, int64_t absent,
                                int64_t layers);

// `windows` as layer_types has them, of which full_attention has none and
// sliding_attention has `window` (0: must not occur); as they are where it is
// absent or null.
void ReadLayerTypes(ConfigReader& reader, int64_t window,
                    std::vector<int64_t>& windows);

// The windows of layers by sliding_window, use_sliding_window,
// max_window_layers and layer_types, as Qwen2Config and its kin mean them.
std::vector<int64_t> ReadLayerWindows(ConfigReader& reader, int64_t layers);

// The model of `config`, which came out of `config_reader`; weights are asked
// for in `reader`.
// Errors: those of both.
absl::StatusOr<std::unique_ptr<const Model>> MakeLlama(
    std::string_view architecture, const ConfigReader& config_reader,
    const LlamaConfig& config, const Checkpoint& checkpoint,
    quant::Compute compute, WeightReader& reader);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_ARCH_LLAMA_LIKE_H_
