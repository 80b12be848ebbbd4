// GPT-Neo (Black et al., 2021), as transformers' modeling_gpt_neo.py has it: a
// GPT-2 with q, k and v in matrices of their own and without a bias, scores
// that are not scaled, and layers that see only the last window_size positions.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/decoder/decoder.h"
#include "model/decoder/head_layouts.h"
#include "model/decoder/read_weights.h"
#include "model/decoder/sizes.h"
#include "model/registry.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

constexpr auto kUnused = ConfigKey::Use::kUnused;
// Of GPTNeoConfig.
constexpr ConfigKey kKeys[] = {
    {"vocab_size"},
    {"max_position_embeddings"},
    {"hidden_size"},
    {"num_layers"},
    {"num_heads"},
    {"attention_types"},
    {"window_size"},
    {"intermediate_size"},
    {"activation_function"},
    {"layer_norm_epsilon"},
    {"tie_word_embeddings"},
    {"attention_layers"},
    {"attention_dropout", kUnused},
    {"classifier_dropout", kUnused},
    {"embed_dropout", kUnused},
    {"resid_dropout", kUnused},
    {"summary_activation", kUnused},
    {"summary_first_dropout", kUnused},
    {"summary_proj_to_labels", kUnused},
    {"summary_type", kUnused},
    {"summary_use_proj", kUnused},
};

// By layer; 0: all. attention_types is a list of [[kind, ...], times].
std::vector<int64_t> ReadWindows(ConfigReader& reader, int64_t layers) {
  const int64_t window = reader.Int("window_size", 1, kMaxPositions, 256);
  const nlohmann::json types = reader.json().value(
      "attention_types", nlohmann::json::array({{{"global", "local"}, 12}}));
  const auto fail = [&] {
    reader.Fail(WrongField(
        "attention_types",
        StrCat("a list of [[kinds], times], kinds being 'global' and 'local', "
               "for ",
               layers, " layers"),
        ShortJson(types)));
    return std::vector<int64_t>();
  };
  std::vector<int64_t> windows;
  if (!types.is_array()) return fail();
  for (const nlohmann::json& item : types) {
    if (!item.is_array() || item.size() != 2 || !item[0].is_array() ||
        item[0].empty() || !item[1].is_number_unsigned() ||
        item[1].get<uint64_t>() > kMaxLayers) {
      return fail();
    }
    for (uint64_t i = 0; i < item[1].get<uint64_t>(); ++i) {
      for (const nlohmann::json& kind : item[0]) {
        if (kind != "global" && kind != "local") return fail();
        windows.push_back(kind == "local" ? window : 0);
        if (static_cast<int64_t>(windows.size()) > layers) return fail();
      }
    }
  }
  return static_cast<int64_t>(windows.size()) == layers ? windows : fail();
}

// attention_layers says it once more, a kind for each layer.
void CheckLayers(ConfigReader& reader, const std::vector<int64_t>& windows) {
  if (!IsGiven(reader.json(), "attention_layers")) return;
  nlohmann::json kinds = nlohmann::json::array();
  for (const int64_t window : windows) {
    kinds.push_back(window == 0 ? "global" : "local");
  }
  const nlohmann::json& layers = reader.json()["attention_layers"];
  if (layers == kinds) return;
  reader.Fail(WrongField("attention_layers",
                         "what 'attention_types' says of each layer",
                         ShortJson(layers)));
}

absl::StatusOr<DecoderBlock> ReadBlock(const std::string& name,
                                       const DecoderSizes& sizes,
                                       WeightReader& weights) {
  const int64_t width = sizes.width;
  const NormKind norm = {.epsilon = sizes.norm_epsilon};
  const std::string attention = name + ".attn.attention";
  DecoderBlock block;
  ASSIGN_OR_RETURN(block.attention_norm,
                   ReadNorm(weights, name + ".ln_1", width, norm));
  ASSIGN_OR_RETURN(block.attention.qkv,
                   ReadQkv(weights, attention, sizes, /*bias=*/false));
  ASSIGN_OR_RETURN(block.attention.out,
                   ReadLinear(weights, attention + ".out_proj", width, width,
                              /*bias=*/true));
  ASSIGN_OR_RETURN(block.mlp_norm,
                   ReadNorm(weights, name + ".ln_2", width, norm));
  ASSIGN_OR_RETURN(block.mlp,
                   ReadMlp(weights, name + ".mlp.c_fc", name + ".mlp.c_proj",
                           sizes, /*bias=*/true));
  return block;
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute compute,
    WeightReader& weights) {
  ConfigReader reader(checkpoint.config(), kKeys);
  const DecoderSizes sizes = ReadSizes(
      reader, {.vocab_size = 50257, .width = 2048, .layers = 24, .heads = 16},
      {.layers = "num_layers",
       .heads = "num_heads",
       .activation = "activation_function",
       .epsilon = "layer_norm_epsilon"});
  const std::vector<int64_t> windows = ReadWindows(reader, sizes.layers);
  CheckLayers(reader, windows);
  RETURN_IF_ERROR(WithContext(reader.status(), checkpoint.config_name()));
  DecoderDescription net = {
      .architecture = "gpt_neo",
      .vocab_size = sizes.vocab_size,
      .max_positions = sizes.positions,
      .width = sizes.width,
      .heads = SplitHeads(sizes.heads, sizes.heads, sizes.head_dim),
      .default_eos_id = 50256};
  const std::string model =
      weights.PrefixOf("wte.weight", {"transformer.", ""});
  ASSIGN_OR_RETURN(net.embedding,
                   ReadEmbeddings(weights, model + "wte", model + "wpe", net));
  for (int64_t i = 0; i < sizes.layers; ++i) {
    ASSIGN_OR_RETURN(DecoderBlock block,
                     ReadBlock(StrCat(model, "h.", i), sizes, weights));
    block.attention.window = windows[i];
    net.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(net.final_norm, ReadNorm(weights, model + "ln_f", net.width,
                                            {.epsilon = sizes.norm_epsilon}));
  ASSIGN_OR_RETURN(net.head,
                   ReadHead(weights, "lm_head", net.vocab_size, net.width,
                            sizes.tied ? model + "wte" : "", /*bias=*/false));
  IgnoreConstants(weights);
  return MakeDecoder(checkpoint, compute, std::move(net));
}

}  // namespace

const Architecture& GptNeo() {
  static constexpr Architecture kArchitecture = {
      .name = "gpt_neo",
      .models = "GPT-Neo 125M to 2.7B, TinyStories 1M to 33M",
      .keys = kKeys,
      .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
