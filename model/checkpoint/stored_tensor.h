// Where a tensor lies in a file, and reading it as floats.
#ifndef OUNCE_MODEL_CHECKPOINT_STORED_TENSOR_H_
#define OUNCE_MODEL_CHECKPOINT_STORED_TENSOR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/files/byte_source.h"

namespace ounce::model {

// Tells whether a run of bytes is what its writer wrote. Asked before the first
// element of a tensor is read.
//
// Threads: any thread may call anything.
class StorageCheck {
 public:
  virtual ~StorageCheck() = default;
  // Does its work once; later calls return the same answer.
  virtual absl::Status Verify() const = 0;
};

struct StoredTensor {
  TensorInfo info;
  int64_t offset = 0;  // bytes from the start of the file to element [0, ...]
  // Elements to skip per axis. Empty: row-major without gaps.
  std::vector<int64_t> strides;
  std::shared_ptr<const StorageCheck> check;  // null: nothing to check
};

// All tensors of one file, every element of each inside the file.
using TensorTable = std::map<std::string, StoredTensor>;

// The bytes of `shape` in `dtype`.
// Errors: kInvalidArgument for a negative extent, or when the product
// overflows, even if another extent is 0.
absl::StatusOr<int64_t> CheckedBytes(const std::vector<int64_t>& shape,
                                     quant::DType dtype);

// "[4, 8]"
std::string ShapeText(const std::vector<int64_t>& shape);

// `reason`, after the file's and the tensor's name; kInvalidArgument.
absl::Status TensorError(const ByteSource& file, std::string_view tensor,
                         const std::string& reason);

// Reads elements [first, first + count) in row-major order as they are stored,
// whatever their dtype, through a buffer of at most 256 KiB that is freed
// before it returns. Errors: those of Checkpoint::ReadFloats, but for the
// dtype's.
absl::Status ReadStoredElements(const ByteSource& file, const std::string& name,
                                const StoredTensor& tensor, int64_t first,
                                int64_t count, void* out);

// The same as Checkpoint::ReadFloats does, with its errors.
absl::Status ReadStoredFloats(const ByteSource& file, const std::string& name,
                              const StoredTensor& tensor, int64_t first,
                              int64_t count, float* out);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_STORED_TENSOR_H_
