#include "model/checkpoint/gguf_architectures.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using Change = GgufChange;

// Of transformers' configs that say it so.
constexpr GgufConfigKey kSizes[] = {
    {"hidden_size", "embedding_length"},
    {"num_hidden_layers", "block_count"},
    {"intermediate_size", "feed_forward_length"},
    {"num_attention_heads", "attention.head_count"},
    {"num_key_value_heads", "attention.head_count_kv", false},
    {"head_dim", "attention.key_length", false},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
    {"max_position_embeddings", "context_length"},
    {"rope_theta", "rope.freq_base", false},
};

// Of Llama and its kin: what becomes of queries, of keys, and of norms.
constexpr auto LlamaNames(Change query, Change key, Change norm) {
  return std::to_array<GgufName>({
      {"token_embd", "model.embed_tokens"},
      {"output_norm", "model.norm", norm},
      {"output", "lm_head"},
      {"blk.#.attn_norm", "model.layers.#.input_layernorm", norm},
      {"blk.#.attn_q", "model.layers.#.self_attn.q_proj", query},
      {"blk.#.attn_k", "model.layers.#.self_attn.k_proj", key},
      {"blk.#.attn_v", "model.layers.#.self_attn.v_proj"},
      {"blk.#.attn_q_norm", "model.layers.#.self_attn.q_norm", norm},
      {"blk.#.attn_k_norm", "model.layers.#.self_attn.k_norm", norm},
      {"blk.#.attn_output", "model.layers.#.self_attn.o_proj"},
      {"blk.#.ffn_norm", "model.layers.#.post_attention_layernorm", norm},
      {"blk.#.ffn_gate", "model.layers.#.mlp.gate_proj"},
      {"blk.#.ffn_up", "model.layers.#.mlp.up_proj"},
      {"blk.#.ffn_down", "model.layers.#.mlp.down_proj"},
  });
}
constexpr auto kLlama =
    LlamaNames(Change::kQueryHeads, Change::kKeyHeads, Change::kNone);
constexpr auto kQwen = LlamaNames(Change::kNone, Change::kNone, Change::kNone);
constexpr auto kGemma =
    LlamaNames(Change::kNone, Change::kNone, Change::kPlusOne);

constexpr GgufName kStarcoder2[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
    {"blk.#.attn_norm", "model.layers.#.input_layernorm"},
    {"blk.#.attn_q", "model.layers.#.self_attn.q_proj"},
    {"blk.#.attn_k", "model.layers.#.self_attn.k_proj"},
    {"blk.#.attn_v", "model.layers.#.self_attn.v_proj"},
    {"blk.#.attn_output", "model.layers.#.self_attn.o_proj"},
    {"blk.#.ffn_norm", "model.layers.#.post_attention_layernorm"},
    {"blk.#.ffn_up", "model.layers.#.mlp.c_fc"},
    {"blk.#.ffn_down", "model.layers.#.mlp.c_proj"},
};
constexpr GgufConfigKey kStarcoder2Keys[] = {
    {"hidden_size", "embedding_length"},
    {"num_hidden_layers", "block_count"},
    {"intermediate_size", "feed_forward_length"},
    {"num_attention_heads", "attention.head_count"},
    {"num_key_value_heads", "attention.head_count_kv", false},
    {"norm_epsilon", "attention.layer_norm_epsilon"},
    {"max_position_embeddings", "context_length"},
    {"rope_theta", "rope.freq_base", false},
};

constexpr GgufName kGpt2[] = {
    {"token_embd", "transformer.wte"},
    {"position_embd", "transformer.wpe"},
    {"output_norm", "transformer.ln_f"},
    {"output", "lm_head"},
    {"blk.#.attn_norm", "transformer.h.#.ln_1"},
    {"blk.#.attn_qkv", "transformer.h.#.attn.c_attn"},
    {"blk.#.attn_output", "transformer.h.#.attn.c_proj"},
    {"blk.#.ffn_norm", "transformer.h.#.ln_2"},
    {"blk.#.ffn_up", "transformer.h.#.mlp.c_fc"},
    {"blk.#.ffn_down", "transformer.h.#.mlp.c_proj"},
};
constexpr GgufConfigKey kGpt2Keys[] = {
    {"n_embd", "embedding_length"},
    {"n_layer", "block_count"},
    {"n_inner", "feed_forward_length"},
    {"n_head", "attention.head_count"},
    {"layer_norm_epsilon", "attention.layer_norm_epsilon"},
    {"n_positions", "context_length"},
};

constexpr GgufName kGptNeox[] = {
    {"token_embd", "gpt_neox.embed_in"},
    {"output_norm", "gpt_neox.final_layer_norm"},
    {"output", "embed_out"},
    {"blk.#.attn_norm", "gpt_neox.layers.#.input_layernorm"},
    {"blk.#.attn_qkv", "gpt_neox.layers.#.attention.query_key_value",
     Change::kHeadsJoined},
    {"blk.#.attn_output", "gpt_neox.layers.#.attention.dense"},
    {"blk.#.ffn_norm", "gpt_neox.layers.#.post_attention_layernorm"},
    {"blk.#.ffn_up", "gpt_neox.layers.#.mlp.dense_h_to_4h"},
    {"blk.#.ffn_down", "gpt_neox.layers.#.mlp.dense_4h_to_h"},
};
constexpr GgufConfigKey kGptNeoxKeys[] = {
    {"hidden_size", "embedding_length"},
    {"num_hidden_layers", "block_count"},
    {"intermediate_size", "feed_forward_length"},
    {"num_attention_heads", "attention.head_count"},
    {"layer_norm_eps", "attention.layer_norm_epsilon"},
    {"max_position_embeddings", "context_length"},
    {"use_parallel_residual", "use_parallel_residual", false},
    {"rotary_emb_base", "rope.freq_base", false},
};

constexpr GgufName kPhi2[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.final_layernorm"},
    {"output", "lm_head"},
    {"blk.#.attn_norm", "model.layers.#.input_layernorm"},
    {"blk.#.attn_qkv", "model.layers.#.self_attn.q_proj", Change::kQueryRows},
    {"blk.#.attn_qkv", "model.layers.#.self_attn.k_proj", Change::kKeyRows},
    {"blk.#.attn_qkv", "model.layers.#.self_attn.v_proj", Change::kValueRows},
    {"blk.#.attn_q", "model.layers.#.self_attn.q_proj"},
    {"blk.#.attn_k", "model.layers.#.self_attn.k_proj"},
    {"blk.#.attn_v", "model.layers.#.self_attn.v_proj"},
    {"blk.#.attn_output", "model.layers.#.self_attn.dense"},
    {"blk.#.ffn_up", "model.layers.#.mlp.fc1"},
    {"blk.#.ffn_down", "model.layers.#.mlp.fc2"},
};
constexpr GgufConfigKey kPhi2Keys[] = {
    {"hidden_size", "embedding_length"},
    {"num_hidden_layers", "block_count"},
    {"intermediate_size", "feed_forward_length"},
    {"num_attention_heads", "attention.head_count"},
    {"num_key_value_heads", "attention.head_count_kv", false},
    {"layer_norm_eps", "attention.layer_norm_epsilon"},
    {"max_position_embeddings", "context_length"},
    {"rope_theta", "rope.freq_base", false},
};

absl::StatusOr<int64_t> HeadWidth(const json& config) {
  ASSIGN_OR_RETURN(const int64_t width,
                   JsonInt(config, "hidden_size", 1, INT32_MAX));
  ASSIGN_OR_RETURN(const int64_t heads,
                   JsonInt(config, "num_attention_heads", 1, INT32_MAX));
  return OptionalJsonInt(config, "head_dim", 1, INT32_MAX, width / heads);
}

// What of a head's width positions turn: all of it, or as `share` of it.
absl::Status CompleteRotary(const json& metadata, std::string_view name,
                            const char* share, json& config) {
  ASSIGN_OR_RETURN(const int64_t width, HeadWidth(config));
  const std::string key = StrCat(name, ".rope.dimension_count");
  ASSIGN_OR_RETURN(const int64_t turned,
                   OptionalJsonInt(metadata, key, 1, INT32_MAX, width));
  if (share != nullptr) {
    // A little more, since the product with the width is cut off.
    config[share] = std::min(
        1.0, (static_cast<double>(turned) + 0.5) / static_cast<double>(width));
  } else if (turned != width) {
    return absl::UnimplementedError(
        StrCat("'", key, "' must be the width of a head, ", width, ", is ",
               turned, ", which is not served for this architecture"));
  }
  return absl::OkStatus();
}

absl::Status CompleteScaling(const json& metadata, std::string_view name,
                             json& config) {
  const std::string scaling = StrCat(name, ".rope.scaling.");
  const std::string old = StrCat(name, ".rope.scale_linear");
  if (metadata.contains(old)) {
    ASSIGN_OR_RETURN(const double factor, JsonNumber(metadata, old, 0, 1e6));
    if (factor != 0 && factor != 1) {
      config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", factor}};
    }
    return absl::OkStatus();
  }
  // As llama.cpp takes it: linear where there is a factor and no type.
  ASSIGN_OR_RETURN(
      const std::string type,
      OptionalJsonString(
          metadata, scaling + "type",
          metadata.contains(scaling + "factor") ? "linear" : "none"));
  if (type == "none") return absl::OkStatus();
  if (type != "linear" && type != "yarn") {
    return absl::UnimplementedError(
        StrCat("'", scaling, "type' must be none, linear or yarn, is ",
               Quoted(type), ", which is not served"));
  }
  json rope = {{"rope_type", type}};
  ASSIGN_OR_RETURN(rope["factor"],
                   JsonNumber(metadata, scaling + "factor", 1e-6, 1e6));
  const std::string original = scaling + "original_context_length";
  if (metadata.contains(original)) {
    ASSIGN_OR_RETURN(rope["original_max_position_embeddings"],
                     JsonInt(metadata, original, 1, INT32_MAX));
  }
  config["rope_scaling"] = std::move(rope);
  return absl::OkStatus();
}

template <const char* kName>
absl::Status CompleteLlama(const json& metadata, json& config) {
  RETURN_IF_ERROR(CompleteRotary(metadata, kName, nullptr, config));
  return CompleteScaling(metadata, kName, config);
}
constexpr char kLlamaName[] = "llama", kQwen2Name[] = "qwen2";
constexpr char kQwen3Name[] = "qwen3", kStarcoder2Name[] = "starcoder2";

constexpr char kGemmaName[] = "gemma";

absl::Status CompleteGemma(const json& metadata, json& config) {
  config["hidden_activation"] = "gelu_pytorch_tanh";
  return CompleteLlama<kGemmaName>(metadata, config);
}
absl::Status CompleteGptNeox(const json& metadata, json& config) {
  RETURN_IF_ERROR(CompleteRotary(metadata, "gptneox", "rotary_pct", config));
  return CompleteScaling(metadata, "gptneox", config);
}
absl::Status CompletePhi2(const json& metadata, json& config) {
  RETURN_IF_ERROR(
      CompleteRotary(metadata, "phi2", "partial_rotary_factor", config));
  return CompleteScaling(metadata, "phi2", config);
}

constexpr GgufName kBiases[] = {{"blk.0.attn_q.bias", "attention_bias"},
                                {"blk.0.ffn_up.bias", "mlp_bias"}};
constexpr GgufName kAttentionBias[] = {{"blk.0.attn_q.bias", "attention_bias"}};
constexpr GgufName kUseBias[] = {{"blk.0.attn_q.bias", "use_bias"}};

constexpr GgufArchitecture kArchitectures[] = {
    {"gemma", "gemma", kGemma, kSizes, kAttentionBias, CompleteGemma},
    {"gpt2", "gpt2", kGpt2, kGpt2Keys},
    {"gptneox", "gpt_neox", kGptNeox, kGptNeoxKeys, {}, CompleteGptNeox},
    {"llama", "llama", kLlama, kSizes, kBiases, CompleteLlama<kLlamaName>},
    {"phi2", "phi", kPhi2, kPhi2Keys, {}, CompletePhi2},
    {"qwen2", "qwen2", kQwen, kSizes, {}, CompleteLlama<kQwen2Name>},
    {"qwen3", "qwen3", kQwen, kSizes, kAttentionBias,
     CompleteLlama<kQwen3Name>},
    {"starcoder2", "starcoder2", kStarcoder2, kStarcoder2Keys, kUseBias,
     CompleteLlama<kStarcoder2Name>},
};

}  // namespace

absl::Span<const GgufArchitecture> AllGgufArchitectures() {
  return kArchitectures;
}

absl::StatusOr<const GgufArchitecture*> FindGgufArchitecture(
    const json& metadata) {
  ASSIGN_OR_RETURN(const std::string name,
                   JsonString(metadata, "general.architecture"));
  std::string known;
  for (const GgufArchitecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
    StrAppend(&known, known.empty() ? "" : ", ", architecture.name);
  }
  return absl::UnimplementedError(StrCat(
      "'general.architecture' must be one of ", known, ", is ", Quoted(name)));
}

absl::StatusOr<json> GgufConfig(const GgufArchitecture& architecture,
                                const json& metadata) {
  json config = {{"model_type", architecture.model_type},
                 {"torch_dtype", "float16"}};
  for (const GgufConfigKey& key : architecture.keys) {
    const std::string name = StrCat(architecture.name, ".", key.key);
    const auto value = metadata.find(name);
    if (value == metadata.end()) {
      if (!key.required) continue;
      return absl::InvalidArgumentError(StrCat("no key '", name, "'"));
    }
    if (!value->is_number() && !value->is_boolean()) {
      return absl::UnimplementedError(
          StrCat("'", name, "' must be a number, is ", value->type_name()));
    }
    config[std::string(key.hugging_face)] = *value;
  }
  for (const auto& [key, name] :
       {std::pair("bos_token_id", "tokenizer.ggml.bos_token_id"),
        std::pair("eos_token_id", "tokenizer.ggml.eos_token_id")}) {
    if (!metadata.contains(name)) continue;
    ASSIGN_OR_RETURN(config[key], JsonInt(metadata, name, 0, INT32_MAX));
  }
  if (architecture.complete != nullptr) {
    RETURN_IF_ERROR(architecture.complete(metadata, config));
  }
  return config;
}

absl::Status AddGgufRopeFactors(absl::Span<const float> factors, json& config) {
  if (factors.empty() || config.contains("rope_scaling")) {
    return absl::UnimplementedError(
        StrCat("'", kGgufRopeFactors,
               "' beside another scaling of rotary positions is not served"));
  }
  // Of all models that have been published with such a scaling.
  constexpr double kLow = 1, kHigh = 4, kPositions = 8192;
  ASSIGN_OR_RETURN(const double theta,
                   OptionalJsonNumber(config, "rope_theta", 1, 1e12, 10000));
  const double factor = *std::max_element(factors.begin(), factors.end());
  const auto pairs = static_cast<double>(factors.size());
  for (size_t i = 0; i < factors.size(); ++i) {
    const double wave =
        2 * M_PI * std::pow(theta, static_cast<double>(i) / pairs);
    // Waves of high frequency stay, those of low are stretched.
    const double stays =
        std::clamp((kPositions / wave - kLow) / (kHigh - kLow), 0.0, 1.0);
    const double wanted = 1 / ((1 - stays) / factor + stays);
    if (std::abs(factors[i] - wanted) <= 1e-4 * wanted) continue;
    return absl::UnimplementedError(
        StrCat("'", kGgufRopeFactors, "': element ", i, " must be ", wanted,
               ", as in Llama 3.1 to 3.3, is ", factors[i],
               "; other scalings of this kind are not served"));
  }
  config["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", factor},
                            {"low_freq_factor", kLow},
                            {"high_freq_factor", kHigh},
                            {"original_max_position_embeddings", kPositions}};
  return absl::OkStatus();
}

}  // namespace ounce::model
