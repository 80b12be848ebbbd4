// What the files of a model folder say of its tokenizer, as lists that a GGUF
// file's metadata has of it.
#ifndef OUNCE_MODEL_TOKENIZER_GGUF_PIECES_H_
#define OUNCE_MODEL_TOKENIZER_GGUF_PIECES_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/tokenizer/sentencepiece_model.h"
#include "model/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

// kFailedPrecondition: a tokenizer that GGUF has no way to say.
absl::Status GgufCannotSay(std::string_view why);

// A field of an object, or null: also where there is no object.
const nlohmann::json& FieldOf(const nlohmann::json& object,
                              std::string_view key);
bool IsTrue(const nlohmann::json& value);
std::string TextOf(const nlohmann::json& value);  // empty if it is none

bool FileExists(const std::string& path);
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// The files of a folder; null: not there.
struct TokenizerSources {
  std::string folder;
  nlohmann::json tokenizer;  // or what vocab.json and merges.txt say
  nlohmann::json config;     // tokenizer_config.json
  nlohmann::json added;      // added_tokens.json
};
absl::StatusOr<TokenizerSources> ReadTokenizerSources(
    const std::string& folder);

// Texts that are tokens by themselves, by what the files list. Errors:
// kFailedPrecondition for one with a flag that GGUF does not have.
absl::StatusOr<std::set<std::string>> ListedTokens(
    const TokenizerSources& sources);

// What is known of a file's tokens before added ones are.
struct GgufPieces {
  std::vector<std::optional<std::string>> texts;  // by id
  std::vector<SentencePiece::Type> types;
  std::vector<float> scores;  // empty: they have none

  explicit GgufPieces(size_t size)
      : texts(size), types(size, SentencePiece::Type::kUnused) {}
};

// Those of a BPE of bytes; of one with SentencePiece's pieces, which get
// scores: the earlier a piece is merged, the higher; and of tokenizer.model.
// `model` is that of a tokenizer.json.
absl::StatusOr<GgufPieces> GgufPiecesOf(const nlohmann::json& model,
                                        int64_t vocab_size);
absl::StatusOr<GgufPieces> GgufScoredPieces(const nlohmann::json& model,
                                            int64_t vocab_size);
absl::StatusOr<GgufPieces> GgufModelPieces(const TokenizerSources& sources,
                                           int64_t vocab_size);

// "a b" of each.
absl::StatusOr<nlohmann::json> GgufMergesOf(const nlohmann::json& model);

// Puts a token for each id into `keys`: pieces, those that are added to them,
// and what pads the rows.
absl::Status AddGgufTokens(const Tokenizer& tokenizer,
                           const std::set<std::string>& listed,
                           GgufPieces pieces, nlohmann::json& keys);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_GGUF_PIECES_H_
