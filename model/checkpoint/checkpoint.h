// A model folder in Hugging Face layout: its config files and its tensors.
//
// Weight files that are read: a GGUF file (gguf_checkpoint.h); or of a folder
// model.safetensors, model.safetensors.index.json with its shards,
// pytorch_model.bin, pytorch_model.bin.index.json with its shards, the first of
// these that is there, else all files whose names end in .safetensors. A tensor
// is read in small pieces when it is asked for (byte_source.h says why not
// through a mapping), so that reading costs no memory that stays.
//
// A checkpoint that another tool has quantized (quantized_format.h) has the
// weights' names and shapes all the same; they are read as codes, or as the
// floats that these stand for.
//
// Sources: the safetensors format specification; PyTorch's zip serialization
// (torch.save since 1.6). Nothing in a file is ever run or imported.
//
// Threads: const after Open, so any thread may read.
#ifndef OUNCE_MODEL_CHECKPOINT_CHECKPOINT_H_
#define OUNCE_MODEL_CHECKPOINT_CHECKPOINT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint/coded_tensor.h"
#include "nlohmann/json_fwd.hpp"
#include "quant/dtype.h"

namespace ounce::model {

// One stored tensor.
struct TensorInfo {
  quant::DType dtype = quant::DType::kF32;
  std::vector<int64_t> shape;
  // Names that show the same elements of one storage (tied weights) have the
  // same id, so that a footprint counts them once.
  int64_t storage_id = 0;
  // Of a weight that the file holds in codes, [out, in]; `dtype` is then that
  // of the floats they stand for. Null: it holds floats, or what nobody reads.
  std::shared_ptr<const CodedTensor> coded = nullptr;

  int64_t elements() const {
    int64_t n = 1;
    for (int64_t extent : shape) n *= extent;
    return n;
  }
  int64_t bytes() const {
    return coded != nullptr ? coded->bytes : elements() * quant::SizeOf(dtype);
  }
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // `location` is a folder, a GGUF file, or `org/name[@revision]` found in the
  // local Hugging Face cache (hub_cache.h). Errors, each naming the file, the
  // tensor where there is one, what was found and what was wanted:
  //   kNotFound: no such folder, no weight file, not in the cache (the message
  //     names the command that fills it: `hf download org/name`)
  //   kInvalidArgument: malformed or truncated file, offsets outside it or
  //     overlapping, shape times dtype overflow, a forbidden pickle opcode or
  //     global
  //   kUnimplemented: a form that is known but not read (legacy .bin, tar, a
  //     quantized format that is not in quantized_formats.def)
  //   kPermissionDenied, kDataLoss: a file that cannot be read
  //   kResourceExhausted: no file descriptor or memory is left for it
  // `proceed`, if any, is asked again and again while it is opened and read,
  // on the reader's thread; its error ends the work.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(
      std::string_view location,
      const std::function<absl::Status()>& proceed = nullptr);

  // The folder that was opened (the snapshot, for a cached model), or the GGUF
  // file, which is a model by itself.
  virtual const std::string& folder() const = 0;

  // Where config() comes from, for messages.
  virtual std::string config_name() const { return folder() + "/config.json"; }

  // The paths of the files that hold the weights.
  virtual std::vector<std::string> files() const { return {}; }

  // config.json; and generation_config.json, null if there is none. Objects.
  virtual const nlohmann::json& config() const = 0;
  virtual const nlohmann::json& generation_config() const = 0;

  // By name; as stored, but for weights in codes, which are one each.
  virtual const std::map<std::string, TensorInfo>& tensors() const = 0;
  // Those that an index of shards names and their files lack: the file of each.
  virtual std::map<std::string, std::string> lacking() const { return {}; }

  // Reads elements [first, first + count) of `name` in row-major order, as
  // float32; of codes, the values that they stand for. Strided views are
  // followed.
  // Errors: kNotFound; kInvalidArgument for a dtype that is no float, a range
  // outside the tensor, or a storage of a .bin whose CRC is wrong (it is
  // compared once, before the first read of that storage); kDataLoss when the
  // file shrank meanwhile.
  virtual absl::Status ReadFloats(const std::string& name, int64_t first,
                                  int64_t count, float* out) const = 0;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_CHECKPOINT_H_
