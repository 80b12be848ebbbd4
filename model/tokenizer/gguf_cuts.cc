#include "model/tokenizer/gguf_cuts.h"

#include <string>
#include <utility>

namespace ounce::model {
namespace {

using nlohmann::json;

json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json Steps(json first, json second) {
  return {
      {"type", "Sequence"},
      {"pretokenizers", json::array({std::move(first), std::move(second)})}};
}

json SplitBy(std::string_view pattern) {
  return Steps({{"type", "Split"},
                {"pattern", {{"Regex", pattern}}},
                {"behavior", "Isolated"},
                {"invert", false}},
               ByteLevel(false));
}

json AsGpt2() { return ByteLevel(true); }
json WithDigits() {
  return Steps({{"type", "Digits"}, {"individual_digits", true}},
               ByteLevel(true));
}
json AsLlama3() {
  return SplitBy(
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
}
json AsQwen2() {
  return SplitBy(
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
}

constexpr GgufCut kCuts[] = {
    {"gpt-2", AsGpt2},
    {"phi-2", AsGpt2},
    {"mpt", AsGpt2},
    {"olmo", AsGpt2, false, true},
    {"smollm", WithDigits},
    {"starcoder", WithDigits},
    {"refact", WithDigits},
    {"codeshell", WithDigits},
    {"llama-bpe", AsLlama3, true},
    {"qwen2", AsQwen2, false, true},
    {"deepseek-r1-qwen", AsQwen2, false, true},
};

// One step after the other, without what makes no difference to ids.
void Flatten(const json& step, json& steps) {
  if (!step.is_object()) return;
  if (step.value("type", "") == "Sequence") {
    for (const json& inner : step.value("pretokenizers", json::array())) {
      Flatten(inner, steps);
    }
    return;
  }
  json plain = step;
  plain.erase("trim_offsets");
  if (plain.value("type", "") == "ByteLevel" && !plain.contains("use_regex")) {
    plain["use_regex"] = true;
  }
  if (plain.value("type", "") == "Split" && !plain.contains("invert")) {
    plain["invert"] = false;
  }
  steps.push_back(std::move(plain));
}

json Flat(const json& step) {
  json steps = json::array();
  Flatten(step, steps);
  return steps;
}

}  // namespace

absl::Span<const GgufCut> AllGgufCuts() { return kCuts; }

const GgufCut* FindGgufCut(const json& root) {
  const json wanted = Flat(root.value("pre_tokenizer", json()));
  const json normalizer = root.value("normalizer", json());
  const json model = root.value("model", json::object());
  const json ignores = model.value("ignore_merges", json());
  for (const GgufCut& cut : kCuts) {
    const bool composes =
        normalizer.is_object() && normalizer.value("type", "") == "NFC";
    if (Flat(cut.steps()) == wanted && composes == cut.composes &&
        (composes || normalizer.is_null()) &&
        cut.ignores_merges == (ignores == true)) {
      return &cut;
    }
  }
  return nullptr;
}

}  // namespace ounce::model
