// From a tokenizer.model to a tokenizer.json: what transformers 4.57 makes of
// it when it converts a Llama or Gemma tokenizer to its fast form.
//
// The fast form is the reference because it is what transformers encodes with.
// It takes pieces and scores of the file, but not its rules for spaces and
// normal forms: those come from the tokenizer's class.
//
// Source: convert_slow_tokenizer.py (SpmConverter, LlamaConverter,
// GemmaConverter, generate_merges).
#ifndef OUNCE_MODEL_TOKENIZER_SENTENCEPIECE_CONVERSION_H_
#define OUNCE_MODEL_TOKENIZER_SENTENCEPIECE_CONVERSION_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "model/tokenizer/sentencepiece_model.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

enum class SentencePieceClass { kLlama, kGemma };

// The class that tokenizer_config.json names; where it names none, the one that
// `model_type`, of config.json, leads to.
// Errors: kUnimplemented for another class.
absl::StatusOr<SentencePieceClass> ClassOfSentencePiece(
    const nlohmann::json& tokenizer_config, std::string_view model_type);

// A tokenizer.json without post-processor: tokens before and after a text are
// for tokenizer_config.json to say.
// Errors: kUnimplemented for a model that is neither unigram nor BPE;
// kInvalidArgument, naming the key, for what is malformed in the config, and
// where pieces are too long or have too many merges.
absl::StatusOr<nlohmann::json> ConvertSentencePiece(
    const SentencePieceModel& model, SentencePieceClass tokenizer_class,
    const nlohmann::json& tokenizer_config);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_SENTENCEPIECE_CONVERSION_H_
