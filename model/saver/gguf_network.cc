#include "model/saver/gguf_network.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/decoder/rope_config.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/registry.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

json FieldOrNull(const json& object, std::string_view key) {
  const auto found = object.find(std::string(key));
  return found == object.end() ? json() : *found;
}

// Files have numbers in float32, which epsilons are used in, too.
bool SameValue(const json& a, const json& b) {
  if (a.is_number() && b.is_number()) {
    return a.get<float>() == b.get<float>();
  }
  return a == b;
}

const GgufGiven* FindGiven(const GgufArchitecture& architecture,
                           std::string_view key) {
  for (const GgufGiven& given : architecture.given) {
    if (given.hugging_face == key) return &given;
  }
  return nullptr;
}

// One key of config.json against what is read back.
absl::Status CheckKey(const GgufArchitecture& architecture,
                      std::string_view key, const json& config,
                      const json& read) {
  const GgufGiven* given = FindGiven(architecture, key);
  if (given != nullptr && given->value.empty()) return absl::OkStatus();
  const json value = FieldOrNull(config, key);
  const json said = FieldOrNull(read, key);
  const bool must_be_null = given != nullptr && given->value == "null";
  if (must_be_null && !config.contains(std::string(key))) {
    return absl::FailedPreconditionError(
        StrCat("config.json must say '", key, "': null"));
  }
  if (value.is_null() || SameValue(value, said)) return absl::OkStatus();
  if (given != nullptr && !given->also.empty() &&
      value == json::parse(given->also)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      StrCat("config.json has '", key, "' = ", ShortJson(value), ", and ",
             architecture.name,
             said.is_null() ? std::string(" has no key for it")
                            : StrCat(" stands for ", ShortJson(said))));
}

// What is compared in another way: by tensors, and as angles.
std::set<std::string_view> OtherwiseCompared(
    const GgufArchitecture& architecture) {
  return {"vocab_size",
          "tie_word_embeddings",
          "head_dim",
          "rope_scaling",
          "rope_parameters",
          "rope_theta",
          architecture.rotary.base,
          architecture.rotary.share};
}

// How heads of this width turn.
absl::StatusOr<RopeSpec> RopeOf(const GgufArchitecture& architecture,
                                const json& config, int64_t head_dim) {
  const GgufRotary& rotary = architecture.rotary;
  RopeKeys keys;
  keys.base = rotary.base;
  keys.partial = rotary.share;
  keys.absent_partial = rotary.absent_share;
  ASSIGN_OR_RETURN(
      const int64_t positions,
      JsonInt(config, "max_position_embeddings", 1, kMaxPositions));
  return ReadRope(config, RopePairing::kHalves, head_dim, positions, keys);
}

absl::Status CheckRotary(const GgufArchitecture& architecture,
                         const json& config, const json& read,
                         const std::map<std::string, int64_t>& rows) {
  ASSIGN_OR_RETURN(const int64_t width,
                   JsonInt(read, "hidden_size", 1, kMaxInner));
  ASSIGN_OR_RETURN(const int64_t heads,
                   JsonInt(read, "num_attention_heads", 1, kMaxWidth));
  ASSIGN_OR_RETURN(
      const int64_t head_dim,
      OptionalJsonInt(read, "head_dim", 1, kMaxWidth, width / heads));
  const auto queries = rows.find("blk.0.attn_q.weight");
  if (queries != rows.end() && queries->second != heads * head_dim) {
    return absl::FailedPreconditionError(
        StrCat("heads are of ", queries->second / heads,
               " elements, and config.json says no 'head_dim'"));
  }
  ASSIGN_OR_RETURN(const RopeSpec wanted,
                   RopeOf(architecture, config, head_dim));
  ASSIGN_OR_RETURN(const RopeSpec found, RopeOf(architecture, read, head_dim));
  if (wanted.rotary_dim == found.rotary_dim &&
      wanted.frequencies == found.frequencies &&
      wanted.magnitude == found.magnitude) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      StrCat("what a file of ", architecture.name,
             " says of rotary positions gives other angles than config.json's "
             "'rope_scaling' and '",
             architecture.rotary.base, "'"));
}

absl::Status AddTokenIds(const Checkpoint& checkpoint, json& metadata) {
  const json& config = checkpoint.config();
  for (const auto& [key, name] :
       {std::pair("bos_token_id", "tokenizer.ggml.bos_token_id"),
        std::pair("pad_token_id", "tokenizer.ggml.padding_token_id")}) {
    const json id = FieldOrNull(config, key);
    if (id.is_number_integer() && id >= 0) {
      metadata[name] = id.get<uint64_t>();
    }
  }
  const json& generation = checkpoint.generation_config();
  json ends = generation.is_object() && IsGiven(generation, "eos_token_id")
                  ? generation["eos_token_id"]
                  : FieldOrNull(config, "eos_token_id");
  if (!ends.is_array()) ends = json::array({ends});
  const auto keys = GgufEndKeys();
  size_t used = 0;
  for (const json& id : ends) {
    if (!id.is_number_integer() || id < 0) continue;
    if (used == keys.size()) {
      return absl::FailedPreconditionError(
          StrCat("more than ", keys.size(), " tokens end its texts"));
    }
    metadata[keys[used++]] = id.get<uint64_t>();
  }
  return absl::OkStatus();
}

// What the reader makes of the metadata and of the tensors' names.
absl::StatusOr<json> ReadBack(const GgufArchitecture& architecture,
                              const GgufNetwork& network,
                              const std::map<std::string, int64_t>& rows) {
  ASSIGN_OR_RETURN(json read, GgufConfig(architecture, network.metadata));
  for (const GgufName& flag : architecture.flags) {
    read[std::string(flag.hugging_face)] =
        rows.contains(std::string(flag.gguf));
  }
  if (!network.rope_factors.empty()) {
    RETURN_IF_ERROR(AddGgufRopeFactors(network.rope_factors, read));
  }
  return read;
}

}  // namespace

absl::StatusOr<GgufNetwork> GgufNetworkOf(
    const Checkpoint& checkpoint, const GgufArchitecture& architecture,
    const std::map<std::string, int64_t>& rows) {
  const json& config = checkpoint.config();
  const auto describe = [&]() -> absl::StatusOr<GgufNetwork> {
    ASSIGN_OR_RETURN(GgufNetwork network,
                     DescribeForGguf(architecture, config));
    RETURN_IF_ERROR(AddTokenIds(checkpoint, network.metadata));
    ASSIGN_OR_RETURN(const json read, ReadBack(architecture, network, rows));
    ASSIGN_OR_RETURN(const Architecture* known, FindArchitecture(checkpoint));
    const auto others = OtherwiseCompared(architecture);
    for (const ConfigKey& key : known->keys) {
      if (key.use != ConfigKey::Use::kRead || others.contains(key.name)) {
        continue;
      }
      RETURN_IF_ERROR(CheckKey(architecture, key.name, config, read));
    }
    if (architecture.rotary.turns) {
      RETURN_IF_ERROR(CheckRotary(architecture, config, read, rows));
    }
    return network;
  };
  absl::StatusOr<GgufNetwork> network = describe();
  if (!network.ok()) {
    return absl::FailedPreconditionError(network.status().message());
  }
  return network;
}

}  // namespace ounce::model
