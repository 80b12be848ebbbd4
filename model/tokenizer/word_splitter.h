// GPT-2's rule for where BPE may not merge: contractions, letters, digits,
// other characters, each with the space before it, and runs of white space.
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// The classes are those of Unicode 16, which Hugging Face `tokenizers` 0.22.2
// uses, whatever the version in the installed PCRE2 (onig_pattern.h).
//
// Threads: const after Create, so any thread may call anything.
#ifndef OUNCE_MODEL_TOKENIZER_WORD_SPLITTER_H_
#define OUNCE_MODEL_TOKENIZER_WORD_SPLITTER_H_

#include <memory>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/tokenizer/pcre2_code.h"

namespace ounce::model {

class WordSplitter {
 public:
  // Errors: kInternal when PCRE2 refuses the patterns.
  static absl::StatusOr<std::unique_ptr<const WordSplitter>> Create();

  // Calls `word` for each word of `text`, which must be valid UTF-8; together
  // they are the text. Linear in its length.
  // Errors: kResourceExhausted or kInternal, as PCRE2 fails.
  absl::Status Split(std::string_view text,
                     absl::FunctionRef<void(std::string_view)> word) const;

  // Whether the first character of `text`, or its last one, is a word character
  // (\w of the Rust regex crate, which is wider than PCRE2's). `text` must be
  // valid UTF-8; an empty one has none.
  bool StartsWithWordCharacter(std::string_view text) const;
  bool EndsWithWordCharacter(std::string_view text) const;

 private:
  WordSplitter(Pcre2Code words, Pcre2Code word_character)
      : words_(std::move(words)), word_character_(std::move(word_character)) {}

  static absl::StatusOr<Pcre2Code> Compile(std::string_view pattern);

  const Pcre2Code words_;
  const Pcre2Code word_character_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_WORD_SPLITTER_H_
