// A GGUF file, or several that it is split into, as a checkpoint: tensors under
// Hugging Face's names, rows as Hugging Face has them, codes as they lie.
#ifndef OUNCE_MODEL_CHECKPOINT_GGUF_CHECKPOINT_H_
#define OUNCE_MODEL_CHECKPOINT_GGUF_CHECKPOINT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/files/byte_source.h"

namespace ounce::model {

using OpenByPath = std::function<absl::StatusOr<std::unique_ptr<ByteSource>>(
    const std::string& path)>;

// `path` is the file, of several any of them
// ("NAME-00001-of-00003.gguf"); it is the checkpoint's folder(), too. Its
// config is made of the file's metadata (gguf_architectures.h).
// `open` is asked for that file and the others.
// Errors: those of `open` and ReadGguf; kInvalidArgument, with the tensor's
// name, for one that lies outside the file or over another, or has a shape that
// blocks do not divide; kUnimplemented for a type or an architecture that is
// not read, with those that are.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path,
                                                     const OpenByPath& open);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_GGUF_CHECKPOINT_H_
