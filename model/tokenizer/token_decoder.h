// Steps from tokens to text: '▁' into spaces, "<0xE4>" into bytes, ...
//
// The reference runs each step over all tokens. Here tokens go through all
// steps one at a time, so that a text can be shown while it grows: a step keeps
// what it must know of the tokens before, and holds back what a later token may
// still change. What comes out, joined, is what the reference makes of all
// tokens.
//
// To add one: its class and maker in decoders.cc, its line in decoders.def.
//
// Threads: steps are const after they were made; a Run one at a time.
#ifndef OUNCE_MODEL_TOKENIZER_TOKEN_DECODER_H_
#define OUNCE_MODEL_TOKENIZER_TOKEN_DECODER_H_

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// A token on its way, whole, or in parts where a step makes one long token of
// all (Fuse).
struct TokenPart {
  std::string_view text;  // valid during the call only
  bool first = true;      // begins its token
  bool last = true;       // ends it
};

class DecoderStep {
 public:
  // One sequence of tokens.
  class Run {
   public:
    virtual ~Run() = default;
    // Time: amortized linear in the parts' bytes, whatever came before.
    virtual void Push(const TokenPart& part) = 0;
    // No token follows: gives out what was held back. Call once.
    virtual void Finish() = 0;
  };

  virtual ~DecoderStep() = default;

  // Whether it makes one token of all, which goes on in parts.
  virtual bool fuses() const { return false; }

  // `next` takes what the step gives out. Both must outlive the run.
  virtual std::unique_ptr<Run> Start(Run& next) const = 0;
};

// Where in a decoder a step stands.
struct DecoderPlace {
  bool last = true;    // no step follows
  bool fused = false;  // a step before it fuses: one token comes, in parts
};

using DecoderSteps = std::vector<std::unique_ptr<const DecoderStep>>;

// The steps that "decoder" of a tokenizer.json describes, a Sequence's in its
// order. Null: the one that sets a space between tokens.
// Errors: kInvalidArgument for what is malformed, kUnimplemented for what is
// unknown; both name the part.
absl::StatusOr<DecoderSteps> MakeDecoderSteps(const nlohmann::json* decoder);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_TOKEN_DECODER_H_
