// Steps that change a text before it is cut into words: Unicode normal forms,
// lower case, spaces into '▁', ...
//
// To add one: its class and maker in the file of its kind, its line in
// normalizers.def.
//
// Threads: const after it was made, so any thread may call anything.
#ifndef OUNCE_MODEL_TOKENIZER_NORMALIZER_H_
#define OUNCE_MODEL_TOKENIZER_NORMALIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/tokenizer/regex.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// A text that normalizers change.
struct NormalizedText {
  // What becomes of `bytes` bytes at most. Normal forms make 11 of one; beyond
  // that are replacements that some file asks for.
  static constexpr size_t MaxBytes(size_t bytes) {
    return 64 * bytes + (size_t{1} << 16);
  }

  std::string text;  // valid UTF-8
  // Whether its first character stands for the first one of the whole text that
  // Encode was given: nothing was cut off before it, by added tokens or by a
  // normalizer. A Metaspace with "prepend_scheme": "first" asks for it.
  bool at_beginning = true;
  size_t max_bytes = MaxBytes(text.size());
  RegexBudget* budget = nullptr;  // as Word has them
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;

  // One that may make very much of each character (Replace, Precompiled) stops
  // when the text grows beyond max_bytes: with kResourceExhausted, or with a
  // text of more.
  // Errors: as a regular expression fails.
  virtual absl::Status Normalize(NormalizedText& text) const = 0;

  // What its tables take of memory; nothing where that is a few kilobytes.
  virtual int64_t resident_bytes() const { return 0; }
};

using Normalizers = std::vector<std::unique_ptr<const Normalizer>>;

// One after the other. Errors: theirs, and as they have them for a text that
// grows beyond max_bytes.
absl::Status Normalize(const Normalizers& normalizers, NormalizedText& text);

// The steps that "normalizer" of a tokenizer.json describes, a Sequence's in
// its order; null: none.
// Errors: kInvalidArgument for what is malformed, kUnimplemented for what is
// unknown; both name the part.
absl::StatusOr<Normalizers> MakeNormalizers(const nlohmann::json* normalizer);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_NORMALIZER_H_
