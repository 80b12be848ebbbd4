// The weight files of one model folder, as one set of tensors.
#ifndef OUNCE_MODEL_CHECKPOINT_TENSOR_FILES_H_
#define OUNCE_MODEL_CHECKPOINT_TENSOR_FILES_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/byte_source.h"

namespace ounce::model {

struct TensorFiles {
  struct Place {
    const ByteSource* file;  // one of `files`
    StoredTensor tensor;     // storage_id unique over all files
  };
  std::vector<std::unique_ptr<const ByteSource>> files;
  std::map<std::string, Place> tensors;
  // Names that the index promises and their files lack: the file of each.
  std::map<std::string, std::string> lacking;

  // Elements [first, first + count) of `name` in row-major order, as stored.
  // Errors: those of Checkpoint::ReadFloats, but for the dtype's.
  absl::Status ReadElements(const std::string& name, int64_t first,
                            int64_t count, void* out) const;
  // The same as float32. Errors: those of Checkpoint::ReadFloats.
  absl::Status ReadFloats(const std::string& name, int64_t first, int64_t count,
                          float* out) const;

 private:
  absl::StatusOr<const Place*> Find(const std::string& name) const;
};

// Opens the first that is there of model.safetensors,
// model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json
// and, for an index, every file it names, which must lie in `folder` or below
// it; where there is none of them, all files of the folder whose names end in
// .safetensors. A tensor that the index promises and its file lacks is in
// `lacking`: whoever needs it says so. Of names that two files hold, the index
// says which counts. `proceed` is asked then and later, whenever much is to be
// read.
// Errors: kNotFound when none of them or a named file is not there;
// kInvalidArgument for a name that two files hold and the index does not have;
// those of the formats; that of `proceed`.
absl::StatusOr<TensorFiles> OpenTensorFiles(const std::string& folder,
                                            const Proceed& proceed = nullptr);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_TENSOR_FILES_H_
