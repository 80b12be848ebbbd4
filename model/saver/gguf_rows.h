// How a tensor lies in a GGUF file: what its rows are made of, and in which
// order they are.
#ifndef OUNCE_MODEL_SAVER_GGUF_ROWS_H_
#define OUNCE_MODEL_SAVER_GGUF_ROWS_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "model/checkpoint/gguf_architectures.h"
#include "model/checkpoint/gguf_blocks.h"
#include "model/saver/safetensors_files.h"
#include "model/saver/save_format.h"

namespace ounce::model {

struct GgufRowType {
  uint32_t id = 0;                       // of ggml
  int file_type = 0;                     // of files that are mostly of it
  const GgufBlockType* block = nullptr;  // null: floats
  int64_t float_bytes = 0;

  int64_t Bytes(int64_t cols) const {
    return block != nullptr ? cols / block->cols * block->bytes
                            : cols * float_bytes;
  }
};

// Nothing where GGUF has no type for what the plan stores.
std::optional<GgufRowType> GgufRowTypeOf(const StoredTensorView& tensor);

// Rows of the file, out of rows of the checkpoint.
struct GgufRowOrder {
  GgufChange change = GgufChange::kNone;
  int64_t rows = 0;
  int64_t heads = 1;

  bool is_same() const {
    return change == GgufChange::kNone || change == GgufChange::kPlusOne;
  }
  int64_t FileRow(int64_t row) const {
    return GgufRow(change, rows, heads, row);
  }
};

// Writes all of a matrix, or of a vector, in float32. Errors: those of reading
// it and of `sink`.
absl::Status WriteGgufMatrix(const ModelToSave& model,
                             const StoredTensorView& tensor,
                             const GgufRowType& type, const GgufRowOrder& order,
                             TensorSink& sink);
absl::Status WriteGgufVector(const ModelToSave& model,
                             const StoredTensorView& tensor,
                             const GgufRowOrder& order, TensorSink& sink);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_GGUF_ROWS_H_
