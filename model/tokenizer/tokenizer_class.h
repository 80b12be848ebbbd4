// What the tokenizer classes of transformers 4.57 take for granted, each in its
// fast form, where the files beside a tokenizer say nothing.
#ifndef OUNCE_MODEL_TOKENIZER_TOKENIZER_CLASS_H_
#define OUNCE_MODEL_TOKENIZER_TOKENIZER_CLASS_H_

#include <span>
#include <string_view>

namespace ounce::model {

struct TokenizerClass {
  struct Role {
    const char* key;    // "bos_token"
    const char* token;  // "<s>"
  };
  // What decides on the tokens around a text.
  enum class Around {
    kPostProcessor,
    // add_bos_token if the tokenizer is read from vocab.json; else the
    // post-processor.
    kVocabularyFiles,
    // The post-processor; add_bos_token is refused.
    kBosRefused,
    // add_bos_token and add_eos_token in place of the post-processor.
    kConfig,
  };

  // What becomes of add_prefix_space.
  enum class PrefixSpace {
    kOnlyStep,  // the pre-tokenizer takes it, unless it is a Sequence
    kAllSteps,  // where it is true, all steps of a Sequence take it
    // Where it is there, the tokenizer is made of tokenizer.model anew.
    kTokenizerModel,
  };

  std::string_view name;  // without "Fast"
  std::span<const Role> roles;
  Around around = Around::kPostProcessor;
  bool add_bos_token = false;  // if the config does not say
  PrefixSpace prefix_space = PrefixSpace::kOnlyStep;
};

// The class of that name, with "Fast" at its end or without. Null for one that
// takes nothing for granted, or is not known.
const TokenizerClass* FindTokenizerClass(std::string_view name);

// The name of the class that transformers takes for a model of this type where
// tokenizer_config.json names none (TOKENIZER_MAPPING_NAMES); CodeGen's for a
// type that it has none for, or that no model here has.
std::string_view TokenizerClassOfModel(std::string_view model_type);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_TOKENIZER_CLASS_H_
