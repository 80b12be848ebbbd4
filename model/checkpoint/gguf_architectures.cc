#include "model/checkpoint/gguf_architectures.h"

#include <array>
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
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", true,
     GgufNumber::kReal},
    {"max_position_embeddings", "context_length"},
    {"rope_theta", "rope.freq_base", false, GgufNumber::kReal},
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
    {"norm_epsilon", "attention.layer_norm_epsilon", true, GgufNumber::kReal},
    {"max_position_embeddings", "context_length"},
    {"rope_theta", "rope.freq_base", false, GgufNumber::kReal},
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
    {"n_inner", "feed_forward_length", true, GgufNumber::kCount, 4},
    {"n_head", "attention.head_count"},
    {"layer_norm_epsilon", "attention.layer_norm_epsilon", true,
     GgufNumber::kReal},
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
    {"layer_norm_eps", "attention.layer_norm_epsilon", true, GgufNumber::kReal},
    {"max_position_embeddings", "context_length"},
    {"use_parallel_residual", "use_parallel_residual", false,
     GgufNumber::kTruth},
    {"rotary_emb_base", "rope.freq_base", false, GgufNumber::kReal},
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
    {"layer_norm_eps", "attention.layer_norm_epsilon", true, GgufNumber::kReal},
    {"max_position_embeddings", "context_length"},
    {"rope_theta", "rope.freq_base", false, GgufNumber::kReal},
};

constexpr GgufName kBiases[] = {{"blk.0.attn_q.bias", "attention_bias"},
                                {"blk.0.ffn_up.bias", "mlp_bias"}};
constexpr GgufName kAttentionBias[] = {{"blk.0.attn_q.bias", "attention_bias"}};
constexpr GgufName kUseBias[] = {{"blk.0.attn_q.bias", "use_bias"}};

// Of those that have no window.
constexpr GgufGiven kSilu[] = {{"hidden_act", "\"silu\""},
                               {"sliding_window", "null"}};
constexpr GgufGiven kQwenGiven[] = {{"hidden_act", "\"silu\""},
                                    {"use_sliding_window", "false"},
                                    {"sliding_window", ""},
                                    {"max_window_layers", ""},
                                    {"layer_types", ""}};
constexpr GgufGiven kGelu[] = {
    {"hidden_act", "\"gelu_pytorch_tanh\"", "\"gelu_new\""}};
constexpr GgufGiven kGpt2Given[] = {
    {"activation_function", "\"gelu_new\"", "\"gelu_pytorch_tanh\""},
    {"scale_attn_weights", "true"},
    {"scale_attn_by_inverse_layer_idx", "false"}};
constexpr GgufGiven kGptNeoxGiven[] = {{"hidden_act", "\"gelu\""},
                                       {"attention_bias", "true"}};
constexpr GgufGiven kPhi2Given[] = {
    {"hidden_act", "\"gelu_new\"", "\"gelu_pytorch_tanh\""},
    {"qk_layernorm", "false"}};

constexpr GgufArchitecture kArchitectures[] = {
    {.name = "gemma",
     .model_type = "gemma",
     .names = kGemma,
     .keys = kSizes,
     .given = kGelu,
     .flags = kAttentionBias,
     .head = GgufHead::kTied},
    {.name = "gpt2",
     .model_type = "gpt2",
     .names = kGpt2,
     .keys = kGpt2Keys,
     .given = kGpt2Given,
     .rotary = {.turns = false}},
    {.name = "gptneox",
     .model_type = "gpt_neox",
     .names = kGptNeox,
     .keys = kGptNeoxKeys,
     .given = kGptNeoxGiven,
     .rotary = {.base = "rotary_emb_base",
                .share = "rotary_pct",
                .absent_share = 0.25},
     .head = GgufHead::kOwn},
    {.name = "llama",
     .model_type = "llama",
     .names = kLlama,
     .keys = kSizes,
     .given = kSilu,
     .flags = kBiases,
     .also_model_type = "mistral"},
    {.name = "phi2",
     .model_type = "phi",
     .names = kPhi2,
     .keys = kPhi2Keys,
     .given = kPhi2Given,
     .rotary = {.share = "partial_rotary_factor", .absent_share = 0.5},
     .head = GgufHead::kOwn},
    {.name = "qwen2",
     .model_type = "qwen2",
     .names = kQwen,
     .keys = kSizes,
     .given = kQwenGiven},
    {.name = "qwen3",
     .model_type = "qwen3",
     .names = kQwen,
     .keys = kSizes,
     .given = kQwenGiven,
     .flags = kAttentionBias},
    {.name = "starcoder2",
     .model_type = "starcoder2",
     .names = kStarcoder2,
     .keys = kStarcoder2Keys,
     .given = kGelu,
     .flags = kUseBias},
};

bool IsPart(Change change) {
  return change == Change::kQueryRows || change == Change::kKeyRows ||
         change == Change::kValueRows;
}

// What stands for '#' in a module's name, empty if there is none; nothing if
// the name is not of the pattern.
std::optional<std::string_view> BlockIn(std::string_view module,
                                        std::string_view pattern) {
  const size_t place = pattern.find('#');
  if (place == pattern.npos) {
    return module == pattern ? std::optional<std::string_view>("")
                             : std::nullopt;
  }
  const std::string_view before = pattern.substr(0, place);
  const std::string_view after = pattern.substr(place + 1);
  if (module.size() <= before.size() + after.size() ||
      !module.starts_with(before) || !module.ends_with(after)) {
    return std::nullopt;
  }
  const std::string_view block =
      module.substr(before.size(), module.size() - pattern.size() + 1);
  if (block.find_first_not_of("0123456789") != block.npos) return std::nullopt;
  return block;
}

}  // namespace

absl::Span<const GgufArchitecture> AllGgufArchitectures() {
  return kArchitectures;
}

absl::StatusOr<const GgufArchitecture*> FindGgufArchitecture(
    const json& metadata) {
  ASSIGN_OR_RETURN(const std::string name,
                   JsonString(metadata, "general.architecture"));
  for (const GgufArchitecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return absl::UnimplementedError(
      StrCat("'general.architecture' must be one of ", GgufArchitectureNames(),
             ", is ", Quoted(name)));
}

const GgufArchitecture* FindGgufArchitectureOf(std::string_view model_type) {
  for (const GgufArchitecture& architecture : kArchitectures) {
    if (model_type == architecture.model_type ||
        (!model_type.empty() && model_type == architecture.also_model_type)) {
      return &architecture;
    }
  }
  return nullptr;
}

std::string GgufArchitectureNames() {
  std::string names;
  for (const GgufArchitecture& architecture : kArchitectures) {
    StrAppend(&names, names.empty() ? "" : ", ", architecture.name);
  }
  return names;
}

std::optional<GgufTensorName> GgufNameOf(const GgufArchitecture& architecture,
                                         std::string_view hugging_face) {
  const size_t dot = hugging_face.rfind('.');
  if (dot == hugging_face.npos) return std::nullopt;
  const std::string_view module = hugging_face.substr(0, dot);
  const std::string_view suffix = hugging_face.substr(dot);
  if (suffix != ".weight" && suffix != ".bias") return std::nullopt;
  for (const GgufName& name : architecture.names) {
    if (IsPart(name.change)) continue;
    std::string_view pattern = name.hugging_face;
    std::optional<std::string_view> block = BlockIn(module, pattern);
    const size_t prefix = pattern.find('.');
    if (!block.has_value() && prefix != pattern.npos) {
      block = BlockIn(module, pattern.substr(prefix + 1));
    }
    if (!block.has_value()) continue;
    std::string gguf(name.gguf);
    const size_t place = gguf.find('#');
    if (place != std::string::npos) gguf.replace(place, 1, *block);
    return GgufTensorName{StrCat(gguf, suffix), name.change};
  }
  return std::nullopt;
}

int64_t GgufRow(GgufChange change, int64_t rows, int64_t heads, int64_t row) {
  switch (change) {
    case Change::kQueryHeads:
    case Change::kKeyHeads: {
      // Here halves lie one behind the other, there their rows alternate.
      const int64_t of_head = rows / heads, in_head = row % of_head;
      const int64_t half = of_head / 2;
      return row - in_head + in_head % half * 2 + in_head / half;
    }
    case Change::kHeadsJoined: {
      const int64_t width = rows / heads / 3;
      const int64_t head = row / (3 * width);
      const int64_t kind = row / width % 3;
      return (kind * heads + head) * width + row % width;
    }
    default:
      return row;
  }
}

absl::StatusOr<int64_t> GgufHeads(GgufChange change, const json& config) {
  ASSIGN_OR_RETURN(const int64_t heads,
                   JsonInt(config, "num_attention_heads", 1, INT32_MAX));
  if (change != Change::kKeyHeads) return heads;
  return OptionalJsonInt(config, "num_key_value_heads", 1, INT32_MAX, heads);
}

}  // namespace ounce::model
