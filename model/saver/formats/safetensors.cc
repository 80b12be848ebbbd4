// Floats in 16 or 32 bits, as transformers saves them: what every tool reads.
#include <map>
#include <utility>

#include "model/files/gguf_file.h"
#include "model/saver/safetensors_files.h"
#include "model/saver/save_format.h"

namespace ounce::model {
namespace {

using nlohmann::json;

// That of most bytes: config.json names one.
std::string_view MostFloats(const ModelToSave& model) {
  std::map<std::string_view, int64_t> bytes;
  for (const StoredTensorView& tensor : model.tensors) {
    bytes[quant::Name(*tensor.float_dtype())] += tensor.report->stored_bytes;
  }
  std::string_view most = "float32";
  int64_t least = 0;
  for (const auto& [name, size] : bytes) {
    if (size > least) {
      most = name;
      least = size;
    }
  }
  return most;
}

class Safetensors final : public SaveFormat {
 public:
  std::string_view name() const override { return "safetensors"; }
  std::string_view summary() const override {
    return "Floats as transformers saves them; of models that are stored as "
           "floats.";
  }

  absl::StatusOr<std::unique_ptr<const WeightFiles>> LayOut(
      const ModelToSave& model) const override {
    std::vector<TensorGroup> groups;
    for (const StoredTensorView& tensor : model.tensors) {
      if (!tensor.is_float()) {
        return model.CannotHold(name(), tensor, "these are no floats");
      }
      groups.push_back(FloatTensor(model, tensor));
    }
    json config = {{"quantization_config", nullptr}};
    // One name, which all versions of transformers know: newer ones write
    // "dtype", and would believe that first.
    config["torch_dtype"] = MostFloats(model);
    config["dtype"] = nullptr;
    return SafetensorsFiles(std::move(groups), std::move(config),
                            model.max_shard_bytes);
  }
};

}  // namespace

const SaveFormat& SafetensorsSaveFormat() {
  static const Safetensors format;
  return format;
}

}  // namespace ounce::model
