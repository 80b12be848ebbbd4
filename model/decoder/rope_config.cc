#include "model/decoder/rope_config.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

// Far beyond what is of use; what is outside is a mistake.
constexpr double kMaxBase = 1e15;
constexpr double kMaxFactor = 1e6;
constexpr int64_t kMaxOriginalPositions = int64_t{1} << 40;

// The object that scaling is read from, and its name; null: there is none.
struct Scaling {
  const json* object = nullptr;
  std::string_view key;
};

absl::StatusOr<Scaling> FindScaling(const json& config) {
  Scaling found;
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (!IsGiven(config, key)) continue;
    if (found.object != nullptr) {
      return absl::InvalidArgumentError(
          "'rope_scaling' and 'rope_parameters' are two names of one thing; "
          "give one of them");
    }
    const json& object = *config.find(key);
    if (!object.is_object()) {
      return WrongField(key, "an object", ShortJson(object));
    }
    found = {&object, key};
  }
  if (found.object == nullptr) return found;
  for (const json& value : *found.object) {
    if (value.is_object()) {
      return absl::UnimplementedError(
          StrCat("'", found.key,
                 "' with values for each type of layer is not supported"));
    }
  }
  return found;
}

// A text of the config's, for messages in ASCII of bounded length.
std::string Quoted(const std::string& text) {
  const std::string shown = ShortJson(text);  // in double quotes
  return StrCat("'", shown.substr(1, shown.rfind('"') - 1), "'");
}

absl::StatusOr<std::string> ScalingType(const Scaling& scaling) {
  const json& object = *scaling.object;
  // What has a base may leave out that it is scaled in no way.
  const bool may_lack = scaling.key == "rope_parameters";
  ASSIGN_OR_RETURN(const std::string older,
                   OptionalJsonString(object, "type", ""));
  ASSIGN_OR_RETURN(const std::string type,
                   OptionalJsonString(object, "rope_type", older));
  if (!older.empty() && type != older) {
    return absl::InvalidArgumentError(
        StrCat("'rope_type' and 'type' are two names of one thing, but are ",
               Quoted(type), " and ", Quoted(older)));
  }
  if (!type.empty() || !may_lack) return type;
  return "default";
}

// A number that the config itself or its rope_parameters may give.
absl::StatusOr<double> SharedNumber(const json& config, const Scaling& scaling,
                                    std::string_view key,
                                    std::string_view newer_key, double min,
                                    double max, double absent) {
  const bool newer = scaling.object != nullptr &&
                     scaling.key == "rope_parameters" &&
                     scaling.object->contains(newer_key);
  if (!newer) return NumberField(config, key, min, max, absent);
  ASSIGN_OR_RETURN(const double value,
                   JsonNumber(*scaling.object, newer_key, min, max));
  ASSIGN_OR_RETURN(const double older,
                   NumberField(config, key, min, max, value));
  if (value == older) return value;
  return absl::InvalidArgumentError(
      StrCat("'", key, "' is ", older, ", but 'rope_parameters' has ", value));
}

absl::StatusOr<Llama3Scaling> ReadLlama3(const json& object) {
  Llama3Scaling scaling;
  ASSIGN_OR_RETURN(scaling.factor,
                   JsonNumber(object, "factor", 1 / kMaxFactor, kMaxFactor));
  ASSIGN_OR_RETURN(
      scaling.low_frequency_factor,
      JsonNumber(object, "low_freq_factor", 1 / kMaxFactor, kMaxFactor));
  ASSIGN_OR_RETURN(
      scaling.high_frequency_factor,
      JsonNumber(object, "high_freq_factor", 1 / kMaxFactor, kMaxFactor));
  ASSIGN_OR_RETURN(scaling.original_positions,
                   JsonInt(object, "original_max_position_embeddings", 1,
                           kMaxOriginalPositions));
  if (scaling.high_frequency_factor <= scaling.low_frequency_factor) {
    return WrongField(
        "high_freq_factor",
        StrCat("more than low_freq_factor = ", scaling.low_frequency_factor),
        StrCat(scaling.high_frequency_factor));
  }
  return scaling;
}

// Zero is as good as absent, as in Python's `or`.
absl::StatusOr<double> NumberOr(const json& object, std::string_view key,
                                double otherwise) {
  ASSIGN_OR_RETURN(const double value,
                   OptionalJsonNumber(object, key, 0, kMaxFactor, 0));
  return value == 0 ? otherwise : value;
}

absl::Status ReadYarn(const json& object, double base, int64_t max_positions,
                      RopeSpec& rope) {
  YarnScaling yarn;
  ASSIGN_OR_RETURN(yarn.factor,
                   JsonNumber(object, "factor", 1 / kMaxFactor, kMaxFactor));
  ASSIGN_OR_RETURN(yarn.beta_fast,
                   NumberOr(object, "beta_fast", yarn.beta_fast));
  ASSIGN_OR_RETURN(yarn.beta_slow,
                   NumberOr(object, "beta_slow", yarn.beta_slow));
  ASSIGN_OR_RETURN(yarn.truncate, BoolField(object, "truncate", true));
  ASSIGN_OR_RETURN(yarn.original_positions,
                   OptionalJsonInt(object, "original_max_position_embeddings",
                                   0, kMaxOriginalPositions, 0));
  if (yarn.original_positions == 0) yarn.original_positions = max_positions;
  rope.frequencies = YarnFrequencies(rope.rotary_dim, base, yarn);

  ASSIGN_OR_RETURN(const double mscale, NumberOr(object, "mscale", 0));
  ASSIGN_OR_RETURN(const double mscale_all_dim,
                   NumberOr(object, "mscale_all_dim", 0));
  ASSIGN_OR_RETURN(
      const double magnitude,
      OptionalJsonNumber(object, "attention_factor", 0, kMaxFactor,
                         YarnMagnitude(yarn.factor, mscale, mscale_all_dim)));
  rope.magnitude = static_cast<float>(magnitude);
  return absl::OkStatus();
}

absl::Status ApplyScaling(const json& object, const std::string& type,
                          double base, int64_t max_positions, RopeSpec& rope) {
  if (type == "default") return absl::OkStatus();
  if (type == "linear" || type == "dynamic") {
    ASSIGN_OR_RETURN(const double factor,
                     JsonNumber(object, "factor", 1 / kMaxFactor, kMaxFactor));
    if (type == "linear") ScaleLinear(factor, rope.frequencies);
    return absl::OkStatus();
  }
  if (type == "llama3") {
    ASSIGN_OR_RETURN(const Llama3Scaling scaling, ReadLlama3(object));
    ScaleLlama3(scaling, rope.frequencies);
    return absl::OkStatus();
  }
  if (type == "yarn") return ReadYarn(object, base, max_positions, rope);
  if (type.empty()) {
    return absl::InvalidArgumentError("'rope_type' is missing");
  }
  return absl::UnimplementedError(
      StrCat("type ", Quoted(type),
             " is not supported: default, linear, dynamic, llama3 and yarn "
             "are"));
}

}  // namespace

absl::StatusOr<RopeSpec> ReadRope(const json& config, RopePairing pairing,
                                  int64_t head_dim, int64_t max_positions,
                                  const RopeKeys& keys) {
  ASSIGN_OR_RETURN(const Scaling scaling, FindScaling(config));
  ASSIGN_OR_RETURN(const double base,
                   SharedNumber(config, scaling, keys.base, "rope_theta", 2,
                                kMaxBase, keys.absent_base));
  constexpr std::string_view kPartial = "partial_rotary_factor";
  double partial = 1;
  if (!keys.partial.empty()) {
    ASSIGN_OR_RETURN(partial,
                     SharedNumber(config, scaling, keys.partial, kPartial, 0, 1,
                                  keys.absent_partial));
  } else if (scaling.object != nullptr && IsGiven(*scaling.object, kPartial) &&
             (*scaling.object)[kPartial] != 1) {
    return UnsupportedField(kPartial, "1",
                            ShortJson((*scaling.object)[kPartial]));
  }
  RopeSpec rope;
  rope.pairing = pairing;
  rope.rotary_dim =
      static_cast<int64_t>(static_cast<double>(head_dim) * partial);
  if (rope.rotary_dim == 0 || rope.rotary_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        keys.partial.empty()
            ? StrCat("the size of a head must be even, is ", head_dim)
            : StrCat("'", keys.partial, "' = ", partial, " of ", head_dim,
                     " elements of a head must be an even number of them, is ",
                     rope.rotary_dim));
  }
  rope.frequencies = RopeFrequencies(rope.rotary_dim, base);
  if (scaling.object == nullptr) return rope;

  const absl::StatusOr<std::string> type = ScalingType(scaling);
  RETURN_IF_ERROR(WithContext(type.status(), std::string(scaling.key)));
  RETURN_IF_ERROR(WithContext(
      ApplyScaling(*scaling.object, *type, base, max_positions, rope),
      std::string(scaling.key)));
  if (!std::all_of(rope.frequencies.begin(), rope.frequencies.end(),
                   [](float f) { return std::isfinite(f); })) {
    return absl::InvalidArgumentError(
        StrCat("'", scaling.key, "' makes frequencies that are no numbers"));
  }
  return rope;
}

RopeSpec ReadRope(ConfigReader& reader, RopePairing pairing, int64_t head_dim,
                  int64_t max_positions, const RopeKeys& keys) {
  if (!reader.status().ok()) return {};
  absl::StatusOr<RopeSpec> rope =
      ReadRope(reader.json(), pairing, head_dim, max_positions, keys);
  if (rope.ok()) return *std::move(rope);
  reader.Fail(rope.status());
  return {};
}

RopeSpec ReadRotaryDim(ConfigReader& reader, int64_t head_dim) {
  constexpr std::string_view kKey = "rotary_dim";
  const bool absent = !reader.json().contains(kKey);
  // The class's default may be more than a small head has, so it is checked
  // like a value of the file.
  const int64_t rotary_dim =
      reader.OptionalInt(kKey, 2, kMaxWidth, absent ? 64 : head_dim);
  if (rotary_dim > head_dim) {
    reader.Fail(WrongField(
        kKey,
        StrCat("at most the size of a head, n_embd / n_head = ", head_dim),
        absent ? "absent, which stands for 64" : StrCat(rotary_dim)));
  } else if (rotary_dim % 2 != 0) {
    reader.Fail(WrongField(kKey, "an even number", StrCat(rotary_dim)));
  }
  if (!reader.status().ok()) return {};
  return {.pairing = RopePairing::kInterleaved,
          .rotary_dim = rotary_dim,
          .frequencies = RopeFrequencies(rotary_dim, 10000)};
}

}  // namespace ounce::model
