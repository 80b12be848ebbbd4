// Steps that cut a text into words, which no token crosses.
//
// To add one: its class and maker in the file of its kind, its line in
// pre_tokenizers.def.
//
// Threads: const after it was made, so any thread may call anything.
#ifndef OUNCE_MODEL_TOKENIZER_PRE_TOKENIZER_H_
#define OUNCE_MODEL_TOKENIZER_PRE_TOKENIZER_H_

#include <memory>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/tokenizer/regex.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// A part of the normalized text.
struct Word {
  std::string_view text;      // valid UTF-8
  bool at_beginning = false;  // as NormalizedText has it
  // Of the call; a step need not hand them on. Null: each search has its own.
  RegexBudget* budget = nullptr;
};

// Takes a part; what it refers to is valid during the call only.
using WordSink = absl::FunctionRef<absl::Status(const Word&)>;

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;

  // Calls `sink` for each part of `word`, none of them empty, in order; `word`
  // is not empty. Linear in its length.
  // Errors: those of `sink`; as a regular expression fails.
  virtual absl::Status Split(const Word& word, WordSink sink) const = 0;
};

using PreTokenizers = std::vector<std::unique_ptr<const PreTokenizer>>;

// The steps that "pre_tokenizer" of a tokenizer.json describes, a Sequence's in
// its order; null: none. `keep_bytes`: the model takes bytes, so the last step,
// which is ByteLevel, does not spell them.
// Errors: kInvalidArgument for what is malformed, kUnimplemented for what is
// unknown; both name the part.
absl::StatusOr<PreTokenizers> MakePreTokenizers(
    const nlohmann::json* pre_tokenizer, bool keep_bytes);

// Whether its last step is ByteLevel, so that words come in the byte alphabet.
absl::StatusOr<bool> EndsWithByteLevel(const nlohmann::json* pre_tokenizer);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_PRE_TOKENIZER_H_
