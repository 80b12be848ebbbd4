// Metaspace, as a pre-tokenizer (a space becomes '▁', and words begin with it)
// and as a step of a decoder (the way back).
//
// Source: Hugging Face tokenizers 0.22.2, pre_tokenizers/metaspace.rs.
#ifndef OUNCE_MODEL_TOKENIZER_METASPACE_H_
#define OUNCE_MODEL_TOKENIZER_METASPACE_H_

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

struct MetaspaceOptions {
  // Whether a text that does not begin with the replacement gets one: every
  // part of it between added tokens, only what begins the whole text, or none.
  enum class Scheme { kAlways, kFirst, kNever };

  std::string replacement;  // one character
  Scheme scheme = Scheme::kAlways;
  bool split = true;  // into words
};

// Errors: as the steps of a tokenizer.json have them.
absl::StatusOr<MetaspaceOptions> ReadMetaspace(const nlohmann::json& step);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_METASPACE_H_
