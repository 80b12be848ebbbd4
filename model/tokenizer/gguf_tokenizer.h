// The tokenizer that a GGUF file carries in its metadata, `tokenizer.ggml.*`.
//
//   model "gpt2"   byte-level BPE of tokens and merges; `pre` names how texts
//                  are cut before
//   model "llama"  SentencePiece's pieces, scores and types
//
// It becomes the description that a tokenizer.json would be. Source:
// ggml-org/llama.cpp, src/llama-vocab.cpp; what `pre` names is the published
// tokenizers' of those models.
#ifndef OUNCE_MODEL_TOKENIZER_GGUF_TOKENIZER_H_
#define OUNCE_MODEL_TOKENIZER_GGUF_TOKENIZER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "model/files/byte_source.h"
#include "model/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

// Of a whole file; only its metadata is read.
// Errors: those of ReadGguf; kNotFound where it has no tokenizer;
// kUnimplemented, naming the key and what is supported, for another model or
// `pre`; kInvalidArgument, naming the key, for what is malformed.
absl::StatusOr<std::unique_ptr<const Tokenizer>> ReadGgufTokenizer(
    const ByteSource& file);

// The description, as of a tokenizer.json, that is made of the metadata.
absl::StatusOr<nlohmann::json> GgufTokenizerJson(
    const nlohmann::json& metadata);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_GGUF_TOKENIZER_H_
