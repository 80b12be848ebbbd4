// The model of a tokenizer: a vocabulary, and the rule by which a word becomes
// tokens of it (BPE, Unigram, WordPiece, ...).
//
//   text -> added tokens cut out -> normalizers -> pre-tokenizers -> MODEL
//        -> ids -> post-processor
//
// To add one: its file with a maker, its line in models.def.
//
// Threads: const after it was made, so any thread may call anything; an Encoder
// one at a time.
#ifndef OUNCE_MODEL_TOKENIZER_TOKEN_MODEL_H_
#define OUNCE_MODEL_TOKENIZER_TOKEN_MODEL_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/tokenizer/vocabulary.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

class TokenModel {
 public:
  // One call of Encode: what is kept between words, so that threads share none.
  // The model must outlive it.
  class Encoder {
   public:
    virtual ~Encoder() = default;

    // Appends the ids of `word`, which is not empty: valid UTF-8, or any bytes
    // if the model takes_bytes(). They depend on the word alone: short words
    // are remembered by the caller and not asked for twice.
    // Time: n log n for n bytes.
    virtual absl::Status AppendIds(std::string_view word,
                                   std::vector<int32_t>& ids) = 0;
  };

  virtual ~TokenModel() = default;

  virtual std::unique_ptr<Encoder> StartEncoding() const = 0;

  virtual const Vocabulary& vocabulary() const = 0;

  // What it takes of memory, to the kilobyte.
  virtual int64_t resident_bytes() const = 0;

  // Whether words are to come as the text's bytes although the pre-tokenizer is
  // ByteLevel, which spells bytes as characters: the same ids with less work.
  virtual bool takes_bytes() const { return false; }
};

// The model that "model" of a tokenizer.json describes. `byte_level`: words
// come spelled in the byte alphabet (byte_alphabet.h), unless the model takes
// bytes.
// Errors: kInvalidArgument for what is malformed, kUnimplemented for what is
// unknown; both name the part.
absl::StatusOr<std::unique_ptr<const TokenModel>> MakeTokenModel(
    const nlohmann::json& model, bool byte_level);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_TOKEN_MODEL_H_
