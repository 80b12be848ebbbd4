// Reads a tokenizer.model, which SentencePiece's trainer writes: a protocol
// buffer (sentencepiece_model.proto of that project) with the pieces of a
// vocabulary and how they were found.
//
// Not by SentencePiece's own library: Debian's exports a second, older copy of
// protobuf under the names of the one that gRPC brings into this process, and
// shows nothing of the file but pieces and scores. And what is wanted is what
// transformers makes of the file, which encodes with none of that library's
// code (sentencepiece_tokenizer.h).
#ifndef OUNCE_MODEL_TOKENIZER_SENTENCEPIECE_MODEL_H_
#define OUNCE_MODEL_TOKENIZER_SENTENCEPIECE_MODEL_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ounce::model {

struct SentencePiece {
  enum class Type {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,      // "<s>": means something, but is no text
    kUserDefined = 4,  // always a token where its text occurs
    kUnused = 5,
    kByte = 6,  // "<0xE4>"
  };

  std::string text;  // UTF-8, not empty
  float score = 0;   // finite; the log of its probability, or minus its rank
  Type type = Type::kNormal;
};

struct SentencePieceModel {
  enum class Algorithm { kUnigram = 1, kBpe = 2, kWord = 3, kCharacter = 4 };

  Algorithm algorithm = Algorithm::kUnigram;
  std::vector<SentencePiece> pieces;  // by id, all different, one unknown
  std::string unknown_piece = "<unk>";
};

// Errors: kInvalidArgument, with the reason, for bytes that are no such file
// or that break what is said above.
absl::StatusOr<SentencePieceModel> ReadSentencePieceModel(
    std::string_view bytes);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_SENTENCEPIECE_MODEL_H_
