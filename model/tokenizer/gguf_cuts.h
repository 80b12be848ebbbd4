// How texts are cut before byte-level BPE, by the names that GGUF has for it.
#ifndef OUNCE_MODEL_TOKENIZER_GGUF_CUTS_H_
#define OUNCE_MODEL_TOKENIZER_GGUF_CUTS_H_

#include <string_view>

#include "absl/types/span.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

// How texts are cut. What one name stands for, others do too.
struct GgufCut {
  std::string_view pre;
  nlohmann::json (*steps)();    // the pre_tokenizer of a tokenizer.json
  bool ignores_merges = false;  // where a whole part is a token
  bool composes = false;        // normal form C before
};

// Of names that stand for one thing, the first is the one to write.
absl::Span<const GgufCut> AllGgufCuts();

// That of a tokenizer.json; null if it is none of these.
const GgufCut* FindGgufCut(const nlohmann::json& root);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_GGUF_CUTS_H_
