// A checkpoint's floats, one piece of the network in memory at a time, to
// compare a version with what it was made of.
#ifndef OUNCE_SERVER_ENGINE_FLOAT_PIECES_H_
#define OUNCE_SERVER_ENGINE_FLOAT_PIECES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/causal_lm.h"
#include "server/engine/checkpoint_fingerprint.h"

namespace ounce::server {

// `proceed` is asked again and again while a file is read; its first error ends
// the work with that error.
//
// Threads: one at a time; files are read on one of low priority.
// Errors: those of ReopenCheckpoint and model::LoadModel.
class FloatPieces {
 public:
  using Proceed = std::function<absl::Status()>;

  virtual ~FloatPieces() = default;

  // Of a checkpoint of a causal language model, loaded from `folder` when
  // `loaded` was its fingerprint; products of floats are computed in float32.
  static absl::StatusOr<std::unique_ptr<FloatPieces>> Open(
      const std::string& folder, const CheckpointFingerprint& loaded,
      const Proceed& proceed);

  // The network without its weights.
  virtual const model::CausalLm& outline() const = 0;

  // What the weights of the largest piece take of memory.
  virtual int64_t largest_bytes() const = 0;

  // The network with the matrices of this piece alone (CausalLm::RunPiece).
  virtual absl::StatusOr<std::unique_ptr<const model::Model>> Load(
      int64_t piece, const Proceed& proceed) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_FLOAT_PIECES_H_
