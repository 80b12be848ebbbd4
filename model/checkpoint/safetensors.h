// The safetensors format, read only.
//
//   [ N: u64 ][ N bytes of JSON ][ data ]        little-endian
//   JSON: name -> {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}
//
// Offsets count from the start of the data. Scalars (shape []) and empty
// tensors are legal. Source: the README of huggingface/safetensors.
#ifndef OUNCE_MODEL_CHECKPOINT_SAFETENSORS_H_
#define OUNCE_MODEL_CHECKPOINT_SAFETENSORS_H_

#include "absl/status/statusor.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/byte_source.h"

namespace ounce::model {

// Bytes of JSON; what the Hugging Face hub takes at most.
inline constexpr int64_t kMaxSafetensorsHeaderBytes = 25'000'000;

// The tensors of `file`. A tied weight is stored once, under one of its names;
// the other may stand in the header's `__metadata__` as {"other": "stored"}. It
// is then a name of the table too, with the same storage_id.
// Errors: kInvalidArgument for a malformed file (the header's length, JSON,
// keys that come twice, offsets that overlap, leave holes, lie outside the file
// or don't match shape and dtype, an unknown dtype); kUnimplemented for a dtype
// of the format that is not read; those of ByteSource::Read.
absl::StatusOr<TensorTable> ParseSafetensors(const ByteSource& file);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_SAFETENSORS_H_
