#include "model/checkpoint/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"

namespace ounce::model {
namespace {

using nlohmann::json;

absl::StatusOr<int64_t> HeadWidth(const json& config) {
  ASSIGN_OR_RETURN(const int64_t width,
                   JsonInt(config, "hidden_size", 1, INT32_MAX));
  ASSIGN_OR_RETURN(const int64_t heads,
                   JsonInt(config, "num_attention_heads", 1, INT32_MAX));
  return OptionalJsonInt(config, "head_dim", 1, INT32_MAX, width / heads);
}

// What of a head's width positions turn.
absl::Status CompleteRotary(const json& metadata, std::string_view name,
                            std::string_view share, json& config) {
  ASSIGN_OR_RETURN(const int64_t width, HeadWidth(config));
  const std::string key = StrCat(name, ".rope.dimension_count");
  ASSIGN_OR_RETURN(const int64_t turned,
                   OptionalJsonInt(metadata, key, 1, INT32_MAX, width));
  if (!share.empty()) {
    // A little more, since the product with the width is cut off.
    config[std::string(share)] = std::min(
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

// Of all models that have been published with Llama 3's scaling.
constexpr double kLow = 1, kHigh = 4, kPositions = 8192;

// What divides the frequency of one of a head's pairs.
double Llama3Factor(double theta, double factor, size_t pair, size_t pairs) {
  const double wave =
      2 * M_PI *
      std::pow(theta, static_cast<double>(pair) / static_cast<double>(pairs));
  // Waves of high frequency stay, those of low are stretched.
  const double stays =
      std::clamp((kPositions / wave - kLow) / (kHigh - kLow), 0.0, 1.0);
  return 1 / ((1 - stays) / factor + stays);
}

// A number as a file has it.
absl::StatusOr<json> NumberFor(const GgufConfigKey& key, const json& value) {
  const bool is_right =
      key.number == GgufNumber::kTruth ? value.is_boolean() : value.is_number();
  if (!is_right) {
    return absl::InvalidArgumentError(
        StrCat("'", key.hugging_face, "' must be a ",
               key.number == GgufNumber::kTruth ? "truth value" : "number",
               ", is ", value.type_name()));
  }
  if (key.number == GgufNumber::kReal) return json(value.get<float>());
  if (key.number == GgufNumber::kTruth) return value;
  if (!value.is_number_integer() || value.get<int64_t>() < 0) {
    return absl::InvalidArgumentError(
        StrCat("'", key.hugging_face, "' must be a whole number, 0 or more"));
  }
  return json(value.get<uint64_t>());
}

constexpr const char* kEndIds[] = {"tokenizer.ggml.eos_token_id",
                                   "tokenizer.ggml.eot_token_id",
                                   "tokenizer.ggml.eom_token_id"};

absl::Status AddTokenIds(const json& metadata, json& config) {
  constexpr char kBegin[] = "tokenizer.ggml.bos_token_id";
  if (metadata.contains(kBegin)) {
    ASSIGN_OR_RETURN(config["bos_token_id"],
                     JsonInt(metadata, kBegin, 0, INT32_MAX));
  }
  json ends = json::array();
  for (const char* key : kEndIds) {
    if (!metadata.contains(key)) continue;
    ASSIGN_OR_RETURN(const int64_t id, JsonInt(metadata, key, 0, INT32_MAX));
    if (std::find(ends.begin(), ends.end(), id) == ends.end()) {
      ends.push_back(id);
    }
  }
  if (ends.size() == 1) {
    config["eos_token_id"] = ends[0];
  } else if (!ends.empty()) {
    config["eos_token_id"] = std::move(ends);
  }
  return absl::OkStatus();
}

bool IsSaid(const json& object, std::string_view key) {
  const auto found = object.find(std::string(key));
  return found != object.end() && !found->is_null();
}

// The object that says how rotary positions are scaled; empty: none does.
json ScalingOf(const json& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (IsSaid(config, key) && config[key].is_object()) return config[key];
  }
  return json::object();
}

// Where a key of rotary embedding is: newer configs have both in one object.
json RotaryValue(const json& config, std::string_view key,
                 std::string_view newer_key) {
  if (IsSaid(config, key)) return config[std::string(key)];
  const json scaling = ScalingOf(config);
  return IsSaid(scaling, newer_key) ? scaling[std::string(newer_key)]
                                    : json(nullptr);
}

absl::Status DescribeScaling(const GgufArchitecture& architecture,
                             const json& config, int64_t turned,
                             GgufNetwork& network) {
  const json scaling = ScalingOf(config);
  ASSIGN_OR_RETURN(const std::string older,
                   OptionalJsonString(scaling, "type", "default"));
  ASSIGN_OR_RETURN(const std::string type,
                   OptionalJsonString(scaling, "rope_type", older));
  if (type == "default") return absl::OkStatus();
  const std::string prefix = StrCat(architecture.name, ".rope.scaling.");
  if (type == "linear" || type == "yarn") {
    network.metadata[prefix + "type"] = type;
    ASSIGN_OR_RETURN(const double factor,
                     JsonNumber(scaling, "factor", 1e-6, 1e6));
    network.metadata[prefix + "factor"] = static_cast<float>(factor);
    constexpr char kOriginal[] = "original_max_position_embeddings";
    if (IsSaid(scaling, kOriginal)) {
      ASSIGN_OR_RETURN(const int64_t original,
                       JsonInt(scaling, kOriginal, 1, INT32_MAX));
      network.metadata[prefix + "original_context_length"] =
          static_cast<uint64_t>(original);
    }
    return absl::OkStatus();
  }
  if (type != "llama3" || architecture.name != "llama") {
    return absl::FailedPreconditionError(
        StrCat("no file of ", architecture.name,
               " says that rotary positions are scaled as ", Quoted(type)));
  }
  ASSIGN_OR_RETURN(const double factor,
                   JsonNumber(scaling, "factor", 1e-6, 1e6));
  ASSIGN_OR_RETURN(
      const double theta,
      OptionalJsonNumber(
          {{"rope_theta", RotaryValue(config, "rope_theta", "rope_theta")}},
          "rope_theta", 1, 1e12, 10000));
  for (int64_t i = 0; i < turned / 2; ++i) {
    network.rope_factors.push_back(
        static_cast<float>(Llama3Factor(theta, factor, i, turned / 2)));
  }
  return absl::OkStatus();
}

absl::Status DescribeRotary(const GgufArchitecture& architecture,
                            const json& config, GgufNetwork& network) {
  const GgufRotary& rotary = architecture.rotary;
  ASSIGN_OR_RETURN(const int64_t width, HeadWidth(config));
  int64_t turned = width;
  if (!rotary.share.empty()) {
    const json share =
        RotaryValue(config, rotary.share, "partial_rotary_factor");
    turned = static_cast<int64_t>(
        static_cast<double>(width) *
        (share.is_number() ? share.get<double>() : rotary.absent_share));
  }
  network.metadata[StrCat(architecture.name, ".rope.dimension_count")] =
      static_cast<uint64_t>(turned);
  return DescribeScaling(architecture, config, turned, network);
}

}  // namespace

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
  for (const GgufGiven& given : architecture.given) {
    if (given.value.empty() || given.value == "null") continue;
    config[std::string(given.hugging_face)] = json::parse(given.value);
  }
  RETURN_IF_ERROR(AddTokenIds(metadata, config));
  const GgufRotary& rotary = architecture.rotary;
  if (!rotary.turns) return config;
  RETURN_IF_ERROR(
      CompleteRotary(metadata, architecture.name, rotary.share, config));
  RETURN_IF_ERROR(CompleteScaling(metadata, architecture.name, config));
  return config;
}

absl::Status AddGgufRopeFactors(absl::Span<const float> factors, json& config) {
  if (factors.empty() || config.contains("rope_scaling")) {
    return absl::UnimplementedError(
        StrCat("'", kGgufRopeFactors,
               "' beside another scaling of rotary positions is not served"));
  }
  ASSIGN_OR_RETURN(const double theta,
                   OptionalJsonNumber(config, "rope_theta", 1, 1e12, 10000));
  const double factor = *std::max_element(factors.begin(), factors.end());
  for (size_t i = 0; i < factors.size(); ++i) {
    const double wanted = Llama3Factor(theta, factor, i, factors.size());
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

absl::Span<const char* const> GgufEndKeys() { return kEndIds; }

absl::StatusOr<GgufNetwork> DescribeForGguf(
    const GgufArchitecture& architecture, const json& config) {
  GgufNetwork network;
  json& metadata = network.metadata;
  metadata["general.architecture"] = architecture.name;
  const auto name = [&](std::string_view key) {
    return StrCat(architecture.name, ".", key);
  };
  for (const GgufConfigKey& key : architecture.keys) {
    json value = key.hugging_face == architecture.rotary.base
                     ? RotaryValue(config, key.hugging_face, "rope_theta")
                     : config.value(std::string(key.hugging_face), json());
    if (value.is_null() && key.widths > 0) {
      ASSIGN_OR_RETURN(
          const int64_t width,
          JsonInt(metadata, name("embedding_length"), 1, INT32_MAX / 8));
      value = static_cast<uint64_t>(key.widths * width);
    }
    if (value.is_null()) {
      if (!key.required) continue;
      return absl::InvalidArgumentError(
          StrCat("no key '", key.hugging_face, "'"));
    }
    ASSIGN_OR_RETURN(metadata[name(key.key)], NumberFor(key, value));
  }
  const std::string of_keys = name("attention.key_length");
  if (metadata.contains(of_keys)) {
    metadata[name("attention.value_length")] = metadata[of_keys];
  }
  if (architecture.rotary.turns) {
    RETURN_IF_ERROR(DescribeRotary(architecture, config, network));
  }
  return network;
}

}  // namespace ounce::model
