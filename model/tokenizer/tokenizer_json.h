// Readers of a tokenizer's files.
#ifndef OUNCE_MODEL_TOKENIZER_TOKENIZER_JSON_H_
#define OUNCE_MODEL_TOKENIZER_TOKENIZER_JSON_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "model/tokenizer/companion_files.h"
#include "model/tokenizer/tokenizer.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// The tokenizer that the content of a tokenizer.json, the one file of Hugging
// Face `tokenizers`, describes; `name` is for messages. Truncation and padding,
// which a caller may ask the library for, are not applied.
// Errors: kInvalidArgument for what is malformed, kUnimplemented for what is
// unknown or not supported, both naming the file and the part.
absl::StatusOr<std::unique_ptr<const Tokenizer>> ParseTokenizerJson(
    const std::string& name, std::string_view text);

// The same in a folder, with what the companions add (companion_files.h).
absl::StatusOr<std::unique_ptr<const Tokenizer>> ParseTokenizerJson(
    const std::string& name, std::string_view text,
    const CompanionFiles& companions);

// What a description in the form of a tokenizer.json was made of.
struct JsonOrigin {
  MainFiles::Form form = MainFiles::Form::kTokenizerJson;
  // As MainFiles has it.
  std::string_view unnamed_class = {};
};

// The same for such a description; null: no companions.
absl::StatusOr<std::unique_ptr<const Tokenizer>> TokenizerFromJson(
    nlohmann::json root, const CompanionFiles* companions,
    const JsonOrigin& origin);

// The content of the older files.
struct VocabularyFiles {
  std::string vocab_json;
  std::string merges_txt;
  CompanionFiles companions;
};

// The tokenizer that transformers 4.57 makes of these files when it converts a
// GPT-2 or CodeGen tokenizer to its fast form. Errors: as above.
absl::StatusOr<std::unique_ptr<const Tokenizer>> ParseVocabularyFiles(
    const VocabularyFiles& files);

// The content of a folder with a tokenizer.model.
struct SentencePieceFiles {
  std::string tokenizer_model;
  CompanionFiles companions;
};

// The tokenizer that transformers 4.57 makes of these files when it converts a
// Llama or Gemma tokenizer to its fast form (sentencepiece_conversion.h).
// Errors: as above.
absl::StatusOr<std::unique_ptr<const Tokenizer>> ParseSentencePieceFiles(
    const SentencePieceFiles& files);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_TOKENIZER_JSON_H_
