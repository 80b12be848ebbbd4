// Steps of a decoder that other code than tokenizer.json's reader makes.
//
// Source: Hugging Face tokenizers 0.22.2, decoders/ and what it imports.
#ifndef OUNCE_MODEL_TOKENIZER_DECODERS_H_
#define OUNCE_MODEL_TOKENIZER_DECODERS_H_

#include <memory>

#include "model/tokenizer/token_decoder.h"

namespace ounce::model {

// A space between tokens.
std::unique_ptr<const DecoderStep> MakeSpaceJoiner();

// From the byte alphabet to bytes; a token that is not in it stays as it is.
// What comes out may be any bytes: with `lossy`, what is no UTF-8 becomes
// U+FFFD.
std::unique_ptr<const DecoderStep> MakeByteLevelDecoder(bool lossy);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_DECODERS_H_
