// Weights as safetensors: one file, or several with an index, as transformers
// writes them.
//
// Source: the safetensors format specification; huggingface_hub,
// serialization/_base.py.
#ifndef OUNCE_MODEL_SAVER_SAFETENSORS_FILES_H_
#define OUNCE_MODEL_SAVER_SAFETENSORS_FILES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "model/saver/new_folder.h"
#include "model/saver/save_format.h"
#include "nlohmann/json.hpp"
#include "quant/dtype.h"

namespace ounce::model {

// Where the bytes of one tensor go.
class TensorSink {
 public:
  TensorSink(NewFile* file, int64_t start) : file_(file), start_(start) {}

  // `offset` is in bytes from the tensor's own start.
  absl::Status WriteAt(int64_t offset, const void* data, int64_t bytes) {
    return file_->WriteAt(start_ + offset, data, bytes);
  }

 private:
  NewFile* file_;
  int64_t start_;
};

struct FileTensor {
  std::string name;
  quant::DType dtype = quant::DType::kF32;
  std::vector<int64_t> shape;

  int64_t bytes() const;
};

// Tensors that are written together: a weight's codes, scales, ...
struct TensorGroup {
  std::string weight;  // whose they are, for progress
  std::vector<FileTensor> tensors = {};
  // Writes all bytes of each; `sinks` are in the order of `tensors`.
  std::function<absl::Status(absl::Span<TensorSink> sinks)> write = {};
};

// Tensors are laid out by name, in 256 files at most, whatever their limit. A
// name may come once. `config` as
// WeightFiles::config.
std::unique_ptr<const WeightFiles> SafetensorsFiles(
    std::vector<TensorGroup> groups, nlohmann::json config,
    int64_t max_shard_bytes);

// A tensor that the plan stores as floats, in the checkpoint's shape: a matrix
// in the dtype of its format, a vector in the checkpoint's, which is what
// models compute with. Requires tensor.is_float().
TensorGroup FloatTensor(const ModelToSave& model,
                        const StoredTensorView& tensor);

// Reads a tensor's codes from the first row to the last, some megabytes of them
// at a time; each time but the last a multiple of `rows`. Errors: those of
// reading; that of `take`.
absl::Status ForEachBand(
    const ModelToSave& model, const StoredTensorView& tensor,
    const std::function<absl::Status(const quant::CodeBand& band)>& take,
    int64_t rows = 1);

// A tensor of a few bytes.
TensorGroup SmallTensor(FileTensor tensor, std::string bytes);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_SAFETENSORS_FILES_H_
