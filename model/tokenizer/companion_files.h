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
//   2. Tokens that are named for a role (bos_token, pad_token, ...) only.
//   3. add_prefix_space.
//
// A token that is there already keeps its id and takes the new flags; a new one
// gets the next free id, whatever id the file says.
#ifndef OUNCE_MODEL_TOKENIZER_COMPANION_FILES_H_
#define OUNCE_MODEL_TOKENIZER_COMPANION_FILES_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "model/tokenizer/byte_level_bpe.h"

namespace ounce::model {

// What the main files leave for the companions to decide.
struct TokenizerParts {
  BpeParts bpe;
  // The pad token that a tokenizer.json's padding names; empty: none.
  std::string pad_token;
  // Whether add_prefix_space is asked for in tokenizer_config.json (absent:
  // false) and replaces what `bpe` says.
  bool config_decides_prefix_space = true;
};

// Errors: kInvalidArgument, naming the file and the key, for what is malformed;
// kUnimplemented for add_bos_token, which transformers refuses as well.
absl::Status MergeCompanionFiles(const CompanionFiles& files,
                                 TokenizerParts& parts);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_COMPANION_FILES_H_
