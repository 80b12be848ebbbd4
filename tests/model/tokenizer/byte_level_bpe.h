// A byte-level BPE tokenizer, as GPT-2's is, out of a vocabulary and merges.
#ifndef OUNCE_TESTS_MODEL_TOKENIZER_BYTE_LEVEL_BPE_H_
#define OUNCE_TESTS_MODEL_TOKENIZER_BYTE_LEVEL_BPE_H_

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "model/tokenizer/bpe.h"
#include "model/tokenizer/byte_level_split.h"
#include "model/tokenizer/decoders.h"
#include "model/tokenizer/pipeline.h"

namespace ounce::model {

struct ByteLevelParts : BpeParts {
  std::vector<AddedToken> added_tokens;
  std::vector<int32_t> ids_after;
};

inline absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeByteLevelBpe(
    ByteLevelParts bpe) {
  TokenizerParts parts;
  bpe.byte_level = true;
  parts.added_tokens = std::move(bpe.added_tokens);
  parts.ids_after = std::move(bpe.ids_after);
  ASSIGN_OR_RETURN(parts.model, Bpe::Create(std::move(bpe)));
  ASSIGN_OR_RETURN(parts.pre_tokenizers.emplace_back(),
                   MakeByteLevelSplit({.spell = false}));
  parts.decoder.push_back(MakeByteLevelDecoder(/*lossy=*/false));
  return MakeTokenizer(std::move(parts));
}

}  // namespace ounce::model

#endif  // OUNCE_TESTS_MODEL_TOKENIZER_BYTE_LEVEL_BPE_H_
