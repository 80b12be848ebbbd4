// A model folder's tokenizer as a GGUF file's metadata: the inverse of
// gguf_tokenizer.h.
#ifndef OUNCE_MODEL_TOKENIZER_GGUF_TOKENIZER_KEYS_H_
#define OUNCE_MODEL_TOKENIZER_GGUF_TOKENIZER_KEYS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

// The keys "tokenizer.ggml.*" but for the ids of roles that config.json has,
// with a token for each of `vocab_size` rows, and "tokenizer.chat_template" if
// the folder has one. `gemma`: for a model whose architecture is Gemma's.
//
// What is read back of them gives the ids that the folder's tokenizer gives, of
// probes that have each added token, among others. Without a tokenizer the
// model is "no_vocab".
// Errors: those of Tokenizer::Load but kNotFound; kFailedPrecondition, naming
// the part, for a tokenizer that GGUF has no way to say.
absl::StatusOr<nlohmann::json> GgufTokenizerKeys(const std::string& folder,
                                                 int64_t vocab_size,
                                                 bool gemma);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_GGUF_TOKENIZER_KEYS_H_
