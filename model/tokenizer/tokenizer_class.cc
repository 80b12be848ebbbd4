#include "model/tokenizer/tokenizer_class.h"

#include <utility>

namespace ounce::model {
namespace {

using Role = TokenizerClass::Role;
using Around = TokenizerClass::Around;
using PrefixSpace = TokenizerClass::PrefixSpace;

constexpr char kEndOfText[] = "<|endoftext|>";
constexpr Role kGpt2Roles[] = {{"bos_token", kEndOfText},
                               {"eos_token", kEndOfText},
                               {"unk_token", kEndOfText}};
constexpr Role kQwen2Roles[] = {{"eos_token", kEndOfText},
                                {"unk_token", kEndOfText},
                                {"pad_token", kEndOfText}};
constexpr Role kBloomRoles[] = {{"bos_token", "<s>"},
                                {"eos_token", "</s>"},
                                {"unk_token", "<unk>"},
                                {"pad_token", "<pad>"}};
constexpr Role kLlamaRoles[] = {
    {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}};
constexpr Role kCodeLlamaRoles[] = {
    {"bos_token", "<s>"},       {"eos_token", "</s>"},
    {"unk_token", "<unk>"},     {"prefix_token", "▁<PRE>"},
    {"middle_token", "▁<MID>"}, {"suffix_token", "▁<SUF>"},
    {"eot_token", "▁<EOT>"}};
constexpr Role kGemmaRoles[] = {{"bos_token", "<bos>"},
                                {"eos_token", "<eos>"},
                                {"unk_token", "<unk>"},
                                {"pad_token", "<pad>"}};

constexpr TokenizerClass kClasses[] = {
    {"BloomTokenizer", kBloomRoles, Around::kPostProcessor, false,
     PrefixSpace::kAllSteps},
    {"CodeGenTokenizer", kGpt2Roles, Around::kBosRefused},
    {"CodeLlamaTokenizer", kCodeLlamaRoles, Around::kConfig, true},
    {"GPT2Tokenizer", kGpt2Roles, Around::kVocabularyFiles},
    {"GPTNeoXTokenizer", kGpt2Roles, Around::kConfig},
    {"GemmaTokenizer", kGemmaRoles, Around::kConfig, true},
    {"LlamaTokenizer", kLlamaRoles, Around::kConfig, true,
     PrefixSpace::kTokenizerModel},
    {"Qwen2Tokenizer", kQwen2Roles},
};

// By model_type.
constexpr std::pair<std::string_view, std::string_view> kClassesOfModels[] = {
    {"bloom", "BloomTokenizer"},   {"codegen", "CodeGenTokenizer"},
    {"gemma", "GemmaTokenizer"},   {"gemma2", "GemmaTokenizer"},
    {"gpt2", "GPT2Tokenizer"},     {"gpt_bigcode", "GPT2Tokenizer"},
    {"gpt_neo", "GPT2Tokenizer"},  {"gpt_neox", "GPTNeoXTokenizer"},
    {"gptj", "GPT2Tokenizer"},     {"llama", "LlamaTokenizer"},
    {"mistral", "LlamaTokenizer"}, {"olmo", "GPTNeoXTokenizer"},
    {"opt", "GPT2Tokenizer"},      {"phi", "CodeGenTokenizer"},
    {"phi3", "LlamaTokenizer"},    {"qwen2", "Qwen2Tokenizer"},
    {"qwen3", "Qwen2Tokenizer"},   {"starcoder2", "GPT2Tokenizer"},
};

}  // namespace

std::string_view TokenizerClassOfModel(std::string_view model_type) {
  for (const auto& [type, name] : kClassesOfModels) {
    if (type == model_type) return name;
  }
  return "CodeGenTokenizer";
}

const TokenizerClass* FindTokenizerClass(std::string_view name) {
  if (name.ends_with("Fast")) name.remove_suffix(4);
  for (const TokenizerClass& known : kClasses) {
    if (known.name == name) return &known;
  }
  return nullptr;
}

}  // namespace ounce::model
