#include "model/config_reader.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

std::vector<std::string> Split(std::string_view values) {
  return absl::StrSplit(std::string(values), '|');
}

// "a", "b" or "c".
std::string OneOf(std::string_view values) {
  std::string text;
  const std::vector<std::string> all = Split(values);
  for (size_t i = 0; i < all.size(); ++i) {
    if (i > 0) StrAppend(&text, i + 1 < all.size() ? ", " : " or ");
    StrAppend(&text, all[i]);
  }
  return text;
}

struct NamedActivation {
  std::string_view name;
  quant::Activation activation;
};
// transformers' activations.py, as far as the same function is here.
constexpr NamedActivation kActivations[] = {
    {"relu", quant::Activation::kRelu},
    {"gelu", quant::Activation::kGelu},
    {"gelu_python", quant::Activation::kGelu},
    {"gelu_new", quant::Activation::kGeluTanh},
    {"gelu_fast", quant::Activation::kGeluTanh},
    {"gelu_pytorch_tanh", quant::Activation::kGeluTanh},
    {"gelu_python_tanh", quant::Activation::kGeluTanh},
    {"gelu_accurate", quant::Activation::kGeluTanh},
    {"silu", quant::Activation::kSilu},
    {"swish", quant::Activation::kSilu},
};

}  // namespace

absl::Span<const ConfigKey> CommonConfigKeys() {
  constexpr auto kMustBe = ConfigKey::Use::kMustBe;
  constexpr auto kUnused = ConfigKey::Use::kUnused;
  static constexpr ConfigKey kKeys[] = {
      {"eos_token_id"},
      {"add_cross_attention", kMustBe, "false"},
      {"is_encoder_decoder", kMustBe, "false"},
      {"pruned_heads", kMustBe, "{}"},
      {"_name_or_path", kUnused},
      {"architectures", kUnused},
      {"attn_implementation", kUnused},
      {"bad_words_ids", kUnused},
      {"begin_suppress_tokens", kUnused},
      {"bos_token_id", kUnused},
      {"chunk_size_feed_forward", kUnused},
      {"cross_attention_hidden_size", kUnused},
      {"decoder_start_token_id", kUnused},
      {"diversity_penalty", kUnused},
      {"do_sample", kUnused},
      {"dtype", kUnused},
      {"early_stopping", kUnused},
      {"encoder_no_repeat_ngram_size", kUnused},
      {"exponential_decay_length_penalty", kUnused},
      {"finetuning_task", kUnused},
      {"forced_bos_token_id", kUnused},
      {"forced_eos_token_id", kUnused},
      {"gradient_checkpointing", kUnused},
      {"id2label", kUnused},
      {"initializer_range", kUnused},
      {"is_decoder", kUnused},
      {"label2id", kUnused},
      {"length_penalty", kUnused},
      {"max_length", kUnused},
      {"min_length", kUnused},
      {"name_or_path", kUnused},
      {"no_repeat_ngram_size", kUnused},
      {"num_beam_groups", kUnused},
      {"num_beams", kUnused},
      {"num_labels", kUnused},
      {"num_return_sequences", kUnused},
      {"output_attentions", kUnused},
      {"output_hidden_states", kUnused},
      {"output_scores", kUnused},
      {"pad_token_id", kUnused},
      {"prefix", kUnused},
      {"problem_type", kUnused},
      {"remove_invalid_values", kUnused},
      {"repetition_penalty", kUnused},
      {"return_dict", kUnused},
      {"return_dict_in_generate", kUnused},
      {"sep_token_id", kUnused},
      {"suppress_tokens", kUnused},
      {"task_specific_params", kUnused},
      {"temperature", kUnused},
      {"tf_legacy_loss", kUnused},
      {"tie_encoder_decoder", kUnused},
      {"tokenizer_class", kUnused},
      {"top_k", kUnused},
      {"top_p", kUnused},
      {"torch_dtype", kUnused},
      {"torchscript", kUnused},
      {"transformers_version", kUnused},
      {"typical_p", kUnused},
      {"unk_token_id", kUnused},
      {"use_bfloat16", kUnused},
      {"use_cache", kUnused},
  };
  return kKeys;
}

ConfigReader::ConfigReader(const nlohmann::json& config,
                           absl::Span<const ConfigKey> keys)
    : config_(config), keys_(keys) {
  CheckValues(CommonConfigKeys());
  CheckValues(keys);
}

void ConfigReader::CheckValues(absl::Span<const ConfigKey> keys) {
  for (const ConfigKey& key : keys) {
    if (key.use != ConfigKey::Use::kMustBe || !IsGiven(config_, key.name)) {
      continue;
    }
    const nlohmann::json& found = config_[key.name];
    bool supported = false;
    for (const std::string& value : Split(key.values)) {
      supported |= found == nlohmann::json::parse(value);
    }
    if (!supported) {
      Fail(UnsupportedField(key.name, OneOf(key.values), ShortJson(found)));
    }
  }
}

void ConfigReader::Fail(const absl::Status& error) { status_.Update(error); }

void ConfigReader::CheckDeclared(std::string_view key) const {
  OUNCE_CHECK(std::any_of(keys_.begin(), keys_.end(),
                          [&](const ConfigKey& declared) {
                            return declared.name == key &&
                                   declared.use == ConfigKey::Use::kRead;
                          }),
              "the table of keys has what is read");
}

template <class T>
T ConfigReader::Take(const absl::StatusOr<T>& read, T instead) {
  if (read.ok()) return *read;
  Fail(read.status());
  return instead;
}

int64_t ConfigReader::Int(std::string_view key, int64_t min, int64_t max,
                          int64_t absent) {
  CheckDeclared(key);
  return Take(IntField(config_, key, min, max, absent), absent);
}

int64_t ConfigReader::Int(std::string_view key, std::string_view alias,
                          int64_t min, int64_t max, int64_t absent) {
  CheckDeclared(key);
  return Take(IntField(config_, key, alias, min, max, absent), absent);
}

int64_t ConfigReader::OptionalInt(std::string_view key, int64_t min,
                                  int64_t max, int64_t absent) {
  CheckDeclared(key);
  return Take(OptionalJsonInt(config_, key, min, max, absent), absent);
}

float ConfigReader::Number(std::string_view key, double min, double max,
                           double absent) {
  CheckDeclared(key);
  return static_cast<float>(
      Take(NumberField(config_, key, min, max, absent), absent));
}

bool ConfigReader::Bool(std::string_view key, bool absent) {
  CheckDeclared(key);
  return Take(BoolField(config_, key, absent), absent);
}

void ConfigReader::CheckMultiple(std::string_view key, int64_t value,
                                 std::string_view of_key, int64_t of) {
  if (value % of == 0) return;
  Fail(WrongField(key, StrCat("a multiple of ", of_key, " = ", of),
                  StrCat(value)));
}

quant::Activation ConfigReader::Activation(std::string_view key,
                                           std::string_view absent) {
  std::string name(absent);
  if (!key.empty()) {
    CheckDeclared(key);
    name = Take(StringField(config_, key, absent), name);
  }
  std::string known;
  for (const NamedActivation& entry : kActivations) {
    if (entry.name == name) return entry.activation;
    StrAppend(&known, known.empty() ? "" : ", ", "'", entry.name, "'");
  }
  Fail(UnsupportedField(key, StrCat("one of ", known), StrCat("'", name, "'")));
  return quant::Activation::kNone;
}

}  // namespace ounce::model
