#include "model/generation_defaults.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

// The bounds of inference.proto.
constexpr double kMaxTemperature = 100;
constexpr int64_t kMaxTopK = 1'000'000;
constexpr double kMinRepetitionPenalty = 0.01;
constexpr double kMaxRepetitionPenalty = 100;

constexpr int64_t kMaxTokens = int64_t{1} << 53;
// GenerationConfig's default of max_length, which generate() takes for silence.
constexpr int64_t kSilentMaxLength = 20;

// A key that is absent stands for the class's default; one that is null for
// doing without.
struct Silence {
  double absent;
  double null;
};

absl::StatusOr<float> Number(const json& object, std::string_view key,
                             double min, double max, Silence silence) {
  const double other = object.contains(key) ? silence.null : silence.absent;
  ASSIGN_OR_RETURN(const double value,
                   OptionalJsonNumber(object, key, min, max, other));
  return static_cast<float>(value);
}

absl::Status ReadSampling(const json& object, GenerationDefaults& defaults) {
  ASSIGN_OR_RETURN(defaults.temperature, Number(object, "temperature", 0,
                                                kMaxTemperature, {1.0, 1.0}));
  ASSIGN_OR_RETURN(defaults.top_k,
                   OptionalJsonInt(object, "top_k", 0, kMaxTopK,
                                   object.contains("top_k") ? 0 : 50));
  ASSIGN_OR_RETURN(defaults.top_p, Number(object, "top_p", 0, 1, {1.0, 1.0}));
  // 0 leaves the most probable token there, and means "all" on the wire.
  defaults.top_p = std::max(defaults.top_p, std::numeric_limits<float>::min());
  ASSIGN_OR_RETURN(defaults.min_p, Number(object, "min_p", 0, 1, {0.0, 0.0}));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<int64_t>> Length(const json& object,
                                              std::string_view key) {
  if (!IsGiven(object, key)) return std::nullopt;
  ASSIGN_OR_RETURN(const int64_t value, JsonInt(object, key, 1, kMaxTokens));
  return value;
}

// Ids that no token has suppress nothing, as in the reference.
absl::StatusOr<std::vector<int32_t>> SuppressedIds(const json& object,
                                                   int64_t vocab_size) {
  constexpr std::string_view kKey = "suppress_tokens";
  std::vector<int32_t> ids;
  if (!IsGiven(object, kKey)) return ids;
  const json& list = object[std::string(kKey)];
  if (!list.is_array()) {
    return WrongField(kKey, "a list of token ids", ShortJson(list));
  }
  for (const json& entry : list) {
    if (!entry.is_number_integer()) {
      return WrongField(kKey, "a list of token ids",
                        StrCat("a list with ", ShortJson(entry)));
    }
    const int64_t id = entry.get<int64_t>();
    if (id >= 0 && id < vocab_size) ids.push_back(static_cast<int32_t>(id));
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// Keys that change what generate() writes unless they have this value, null or
// an empty one.
struct OtherKey {
  std::string_view name;
  std::optional<double> changes_nothing = 0;
  bool only_sampling = false;
};
constexpr OtherKey kOtherKeys[] = {
    {"bad_words_ids"},
    {"begin_suppress_tokens"},
    {"constraints"},
    {"dola_layers"},
    {"encoder_no_repeat_ngram_size"},
    {"encoder_repetition_penalty", 1},
    {"epsilon_cutoff", 0, true},
    {"eta_cutoff", 0, true},
    {"exponential_decay_length_penalty"},
    {"force_words_ids"},
    {"forced_bos_token_id", std::nullopt},
    {"forced_eos_token_id", std::nullopt},
    {"guidance_scale", 1},
    {"max_time", std::nullopt},
    {"min_length"},
    {"min_new_tokens"},
    {"no_repeat_ngram_size"},
    {"num_beams", 1},
    {"num_return_sequences", 1},
    {"penalty_alpha"},
    {"sequence_bias"},
    {"stop_strings"},
    {"token_healing"},
    {"typical_p", 1, true},
    {"watermarking_config"},
};

bool ChangesNothing(const json& value, const OtherKey& key) {
  if (value.is_number()) return value.get<double>() == key.changes_nothing;
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  if (value.is_boolean()) return !value.get<bool>();
  return value.empty();  // null and lists and objects without elements
}

std::vector<std::string> NotHonoured(const json& object, bool samples) {
  std::vector<std::string> result;
  for (const OtherKey& key : kOtherKeys) {
    const auto found = object.find(key.name);
    if (found == object.end() || (key.only_sampling && !samples) ||
        ChangesNothing(*found, key)) {
      continue;
    }
    result.push_back(StrCat(key.name, " = ", ShortJson(*found)));
  }
  return result;
}

}  // namespace

absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(const json& object,
                                                          int64_t vocab_size) {
  GenerationDefaults defaults;
  if (object.is_null()) return defaults;
  ASSIGN_OR_RETURN(const bool samples, BoolField(object, "do_sample", false));
  if (samples) RETURN_IF_ERROR(ReadSampling(object, defaults));
  ASSIGN_OR_RETURN(defaults.repetition_penalty,
                   Number(object, "repetition_penalty", kMinRepetitionPenalty,
                          kMaxRepetitionPenalty, {1.0, 1.0}));
  ASSIGN_OR_RETURN(defaults.max_new_tokens, Length(object, "max_new_tokens"));
  if (!defaults.max_new_tokens.has_value()) {
    ASSIGN_OR_RETURN(defaults.max_length, Length(object, "max_length"));
    if (defaults.max_length == kSilentMaxLength) defaults.max_length.reset();
  }
  ASSIGN_OR_RETURN(defaults.suppressed_ids, SuppressedIds(object, vocab_size));
  defaults.not_honoured = NotHonoured(object, samples);
  return defaults;
}

}  // namespace ounce::model
