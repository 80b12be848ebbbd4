// Weights as one GGUF file, "model.gguf", with metadata that makes it a model
// by itself.
#ifndef OUNCE_MODEL_SAVER_GGUF_FILES_H_
#define OUNCE_MODEL_SAVER_GGUF_FILES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "model/files/gguf_header.h"
#include "model/saver/safetensors_files.h"
#include "model/saver/save_format.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

struct GgufWeight {
  std::string weight;       // whose bytes they are, for progress
  GgufHeaderTensor tensor;  // the offset follows
  int64_t bytes = 0;
  // Writes all bytes.
  std::function<absl::Status(TensorSink& sink)> write = {};
};

// Tensors lie in the order that they are given in, and are written so.
// `metadata` as GgufHeader takes it.
std::unique_ptr<const WeightFiles> GgufFiles(const nlohmann::json& metadata,
                                             std::vector<GgufWeight> weights);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_GGUF_FILES_H_
