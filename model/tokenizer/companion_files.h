// What the small files beside a tokenizer add to it.
//
// A tokenizer is more than tokenizer.json or vocab.json: further tokens, their
// flags and the space before a text may stand in tokenizer_config.json,
// special_tokens_map.json or added_tokens.json alone. They are merged as
// transformers 4.57 does it when it makes its fast form (from_pretrained in
// tokenization_utils_base.py, __init__ in tokenization_utils_fast.py):
//
//   1. The tokens of added_tokens_decoder in tokenizer_config.json, by id. Only
//      where that key is absent: those of added_tokens.json, and the roles of
//      special_tokens_map.json over those of the config.
//   2. Tokens that are named for a role (bos_token, pad_token, ...), by these
//      files or by the class that tokenizer_config.json names.
//   3. add_prefix_space.
//   4. Some classes put a token before or after every text, whatever the
//      post-processor says.
//
// A token that is there already keeps its id and takes the new flags; a new one
// gets the next free id, whatever id the file says.
#ifndef OUNCE_MODEL_TOKENIZER_COMPANION_FILES_H_
#define OUNCE_MODEL_TOKENIZER_COMPANION_FILES_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/tokenizer/added_tokens.h"
#include "model/tokenizer/post_processor.h"
#include "model/tokenizer/tokenizer_class.h"
#include "model/tokenizer/vocabulary.h"

namespace ounce::model {

// Their content; nothing for a file that is not there.
struct CompanionFiles {
  std::optional<std::string> added_tokens_json;
  std::optional<std::string> tokenizer_config_json;
  std::optional<std::string> special_tokens_map_json;
  // Of config.json; empty where there is none. It leads to a class where
  // tokenizer_config.json names none.
  std::string model_type;
};

// What tokenizer_config.json says of the space before a text.
struct ConfiguredSpace {
  bool wanted = false;  // add_prefix_space
  // What it is applied to; kTokenizerModel only if it is there.
  TokenizerClass::PrefixSpace place = TokenizerClass::PrefixSpace::kOnlyStep;
};
// Errors: kInvalidArgument, naming the file and the key.
absl::StatusOr<ConfiguredSpace> ConfiguredPrefixSpace(
    const CompanionFiles& files);

// What the main files say.
struct MainFiles {
  enum class Form {
    kTokenizerJson,
    kVocabularyFiles,  // vocab.json and merges.txt
    kSentencePiece,    // tokenizer.model
  };
  Form form = Form::kTokenizerJson;
  const Vocabulary& vocabulary;
  // The pad token that a tokenizer.json's padding names; empty: none.
  std::string pad_token;
  // Whether a post-processor puts ids before every text.
  bool adds_before = false;
  // The tokenizer's class where tokenizer_config.json names none; empty: what
  // the model's type leads to.
  std::string_view unnamed_class = {};
};

// Appends what the companions add to `added_tokens`, those of the main files.
// What the tokenizer's class puts around every text; nothing if it leaves that
// to the post-processor.
// Errors: kInvalidArgument, naming the file and the key, for what is malformed;
// kUnimplemented for add_bos_token where transformers refuses it as well.
absl::StatusOr<std::optional<TokensAround>> AddCompanionTokens(
    const CompanionFiles& files, const MainFiles& main,
    std::vector<AddedToken>& added_tokens);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_COMPANION_FILES_H_
