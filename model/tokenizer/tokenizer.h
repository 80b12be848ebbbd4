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
#include "model/tokenizer/utf8.h"

namespace ounce::model {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Reads the tokenizer of a GGUF file (gguf_tokenizer.h), or of a model folder:
  // tokenizer.json, or else
  // tokenizer.model, or else vocab.json + merges.txt; and what the small files
  // beside it add (companion_files.h). As in transformers tokenizer.model comes
  // first if a Llama tokenizer's config has add_prefix_space.
  // Errors: kNotFound when none is there; kInvalidArgument naming the file
  // and the reason when one is malformed; kUnimplemented naming the part
  // (normalizer, pre-tokenizer, model type, ...) that is not supported.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Load(
      const std::string& folder);

  // What Load takes of memory while it runs, at most, by the sizes of the files
  // that it would read; nothing for files that are not there. Of a file that
  // was made to take more it can be less: lists of nothing, say, which no
  // tokenizer has.
  static int64_t MostLoadBytes(const std::string& folder);

  // Appends nothing and prepends nothing (no BOS) unless the file's
  // post-processor says so. Text equal to an added token becomes that token.
  // Errors: kInvalidArgument for invalid UTF-8, with the byte's offset.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text) const = 0;

  // Ids that become text one by one: what comes out, joined, is what Decode
  // gives for all of them.
  //
  // Threads: one at a time. The tokenizer must outlive it.
  class Decoding {
   public:
    virtual ~Decoding() = default;
    // Appends what is certain now that `id` came: no later one changes it.
    // Ids without a token change nothing. Time: as for a few tokens, however
    // many came before.
    virtual void Push(int32_t id, std::string& text) = 0;
    // Appends what was held back. Call once, at the end.
    virtual void Finish(std::string& text) = 0;
  };
  virtual std::unique_ptr<Decoding> StartDecoding(
      bool skip_special = true) const = 0;

  // The text that the tokens stand for, by the file's decoder (no clean-up of
  // spaces beside it). Of a byte-level tokenizer: their bytes, lossless, which
  // may be an incomplete UTF-8 sequence. Ids without a token decode to nothing;
  // special tokens decode to nothing if `skip_special`.
  std::string Decode(absl::Span<const int32_t> ids,
                     bool skip_special = true) const;

  // The special token whose text is exactly `text`, which Decode leaves out.
  virtual std::optional<int32_t> SpecialTokenId(
      std::string_view text) const = 0;

  // What it takes of memory: counted from its tables, so that it is right
  // whatever other threads allocate. Patterns, which take kilobytes, are left
  // out.
  virtual int64_t resident_bytes() const = 0;

  // Ids in [0, size) may stand for a token; models may pad beyond it.
  virtual int32_t size() const = 0;
};

// Decodes a growing sequence into pieces of valid UTF-8: bytes of a character
// that is still incomplete are held back until it is whole, and so is what the
// decoder may still change.
//
// Threads: one at a time. `tokenizer` must outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer)
      : tokenizer_(tokenizer), decoding_(tokenizer.StartDecoding()) {}

  // The text that `id` completes; often one word, sometimes nothing. Bytes that
  // can never become UTF-8 come out as U+FFFD.
  std::string Push(int32_t id);

  // What is still held back, with U+FFFD per broken sequence; at the end. What
  // is pushed then begins a new sequence.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  std::unique_ptr<Tokenizer::Decoding> decoding_;
  LossyUtf8 mended_;
};

using ::ounce::ValidUtf8Prefix;

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_TOKENIZER_H_
