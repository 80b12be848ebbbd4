// Text to token ids and back, exactly as Hugging Face `tokenizers` does it.
//
// Threads: const after Load, so any thread may call anything.
#ifndef OUNCE_MODEL_TOKENIZER_TOKENIZER_H_
#define OUNCE_MODEL_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/utf8.h"

namespace ounce::model {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Reads the tokenizer of a model folder: tokenizer.json, or else vocab.json +
  // merges.txt; and what the small files beside it add (companion_files.h).
  // Errors: kNotFound when neither is there; kInvalidArgument naming the file
  // and the reason when one is malformed; kUnimplemented naming the part
  // (normalizer, pre-tokenizer, model type) that is not byte-level BPE.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Load(
      const std::string& folder);

  // Appends nothing and prepends nothing (no BOS) unless the file's
  // post-processor says so. Text equal to an added token becomes that token.
  // Errors: kInvalidArgument for invalid UTF-8, with the byte's offset.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text) const = 0;

  // The bytes that the tokens stand for, lossless (no clean-up of spaces); may
  // be an incomplete UTF-8 sequence. Ids without a token decode to nothing;
  // special tokens decode to nothing if `skip_special`.
  virtual std::string Decode(absl::Span<const int32_t> ids,
                             bool skip_special = true) const = 0;

  // The special token whose text is exactly `text`, which Decode leaves out.
  virtual std::optional<int32_t> SpecialTokenId(
      std::string_view text) const = 0;

  // Ids in [0, size) may stand for a token; models may pad beyond it.
  virtual int32_t size() const = 0;
};

// Decodes a growing sequence into pieces of valid UTF-8: bytes of a character
// that is still incomplete are held back until it is whole.
//
// Threads: one at a time. `tokenizer` must outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // The text that `id` completes; often one word, sometimes nothing. Bytes that
  // can never become UTF-8 come out as U+FFFD.
  std::string Push(int32_t id);

  // What is still held back, as U+FFFD per broken sequence; call once, at the
  // end.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;  // an incomplete UTF-8 sequence, at most 3 bytes
};

using ::ounce::ValidUtf8Prefix;

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_TOKENIZER_H_
