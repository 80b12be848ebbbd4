// pytorch_model.bin as torch.save has written it since PyTorch 1.6: a zip of
// NAME/data.pkl (see unpickler.h) and one NAME/data/KEY per storage.
#ifndef OUNCE_MODEL_CHECKPOINT_TORCH_ZIP_H_
#define OUNCE_MODEL_CHECKPOINT_TORCH_ZIP_H_

#include "absl/status/statusor.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/byte_source.h"

namespace ounce::model {

// The tensors of `file`, which must outlive the table. Names that show the same
// elements of the same storage have the same storage_id. The CRC of data.pkl is
// compared here, that of a storage in a pass of its own before the first
// element of it is read, so that a damaged weight is never used.
// Errors: kInvalidArgument for a malformed file, a tensor that reaches outside
// its storage or shows more elements than that has; kUnimplemented for the
// forms before 1.6, with what to do, and for big-endian files; those of
// UnpickleStateDict and ByteSource::Read.
absl::StatusOr<TensorTable> ParseTorchZip(const ByteSource& file);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_TORCH_ZIP_H_
