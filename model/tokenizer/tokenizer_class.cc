#include "model/tokenizer/tokenizer_class.h"

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

}  // namespace

const TokenizerClass* FindTokenizerClass(std::string_view name) {
  if (name.ends_with("Fast")) name.remove_suffix(4);
  for (const TokenizerClass& known : kClasses) {
    if (known.name == name) return &known;
  }
  return nullptr;
}

}  // namespace ounce::model
