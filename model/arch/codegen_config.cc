#include "model/arch/codegen_config.h"

#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

// Bounds that no known model comes near; products of any three of these fit 64
// bits.
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxPositions = 1 << 20;
constexpr int64_t kMaxWidth = 1 << 16;
constexpr int64_t kMaxLayers = 1024;

// Keys under which the network is another one.
absl::Status RefuseOtherNetworks(const json& object) {
  if (IsGiven(object, "head_dim")) {
    return absl::UnimplementedError(
        "'head_dim' is a key of codegen2, whose heads lie in 8 groups where "
        "CodeGen's lie in 4; codegen2 is not supported");
  }
  if (IsGiven(object, "pruned_heads") && !object["pruned_heads"].empty()) {
    return UnsupportedField("pruned_heads", "empty",
                            ShortJson(object["pruned_heads"]));
  }
  // The other names under which transformers knows the same function.
  ASSIGN_OR_RETURN(const std::string activation,
                   StringField(object, "activation_function", "gelu_new"));
  if (activation != "gelu_new" && activation != "gelu_fast" &&
      activation != "gelu_pytorch_tanh") {
    return UnsupportedField(
        "activation_function",
        "'gelu_new' (or 'gelu_fast' or 'gelu_pytorch_tanh', the same function)",
        StrCat("'", activation, "'"));
  }
  return absl::OkStatus();
}

absl::Status ReadHeads(const json& object, CodeGenConfig& config) {
  ASSIGN_OR_RETURN(
      config.heads,
      IntField(object, "n_head", "num_attention_heads", 1, config.width, 16));
  if (config.heads % CodeGenConfig::kQkvBlocks != 0) {
    return WrongField("n_head", "a multiple of 4", StrCat(config.heads));
  }
  if (config.width % config.heads != 0) {
    return WrongField("n_embd", StrCat("a multiple of n_head = ", config.heads),
                      StrCat(config.width));
  }
  if (object.contains("rotary_dim") && object["rotary_dim"].is_null()) {
    config.rotary_dim = config.head_dim();
  } else {
    // The default may be more than a small head has, so it is checked like a
    // value of the file.
    ASSIGN_OR_RETURN(config.rotary_dim,
                     IntField(object, "rotary_dim", 2, kMaxWidth, 64));
  }
  if (config.rotary_dim > config.head_dim()) {
    return WrongField("rotary_dim",
                      StrCat("at most the size of a head, n_embd / n_head = ",
                             config.head_dim()),
                      object.contains("rotary_dim")
                          ? StrCat(config.rotary_dim)
                          : "absent, which stands for 64");
  }
  if (config.rotary_dim % 2 != 0) {
    return WrongField("rotary_dim", "an even number",
                      StrCat(config.rotary_dim));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CodeGenConfig> ReadCodeGenConfig(const json& object) {
  RETURN_IF_ERROR(RefuseOtherNetworks(object));
  CodeGenConfig config;
  ASSIGN_OR_RETURN(config.vocab_size,
                   IntField(object, "vocab_size", 1, kMaxVocab, 50400));
  ASSIGN_OR_RETURN(config.positions,
                   IntField(object, "n_positions", "max_position_embeddings", 1,
                            kMaxPositions, 2048));
  ASSIGN_OR_RETURN(config.width, IntField(object, "n_embd", "hidden_size", 1,
                                          kMaxWidth, 4096));
  ASSIGN_OR_RETURN(
      config.layers,
      IntField(object, "n_layer", "num_hidden_layers", 1, kMaxLayers, 28));
  RETURN_IF_ERROR(ReadHeads(object, config));
  // null, and the class's default, stand for four times the width.
  ASSIGN_OR_RETURN(config.inner, OptionalJsonInt(object, "n_inner", 1,
                                                 kMaxWidth, 4 * config.width));
  if (config.inner > kMaxWidth) {
    return WrongField("n_embd",
                      StrCat("at most ", kMaxWidth / 4, " without n_inner"),
                      StrCat(config.width));
  }
  ASSIGN_OR_RETURN(const double epsilon,
                   NumberField(object, "layer_norm_epsilon", 1e-12, 1, 1e-5));
  config.epsilon = static_cast<float>(epsilon);
  ASSIGN_OR_RETURN(config.tied,
                   BoolField(object, "tie_word_embeddings", false));
  return config;
}

}  // namespace ounce::model
