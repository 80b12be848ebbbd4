// The tensors of the Open Inference Protocol's requests and responses: which a
// model takes and gives, and how raw contents hold text.
#ifndef OUNCE_SERVER_SERVICE_OIP_TENSORS_H_
#define OUNCE_SERVER_SERVICE_OIP_TENSORS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "inference/grpc_predict_v2.pb.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

// What a request must have, of BYTES: for text, and for objects.
inline constexpr char kOipText[] = "text_input";
inline constexpr char kOipImage[] = "image";

struct OipOutput {
  const char* name;
  const char* datatype;
  std::vector<int64_t> shape;
};

// Of models that generate text, or of those that detect objects.
bool GeneratesText(const ModelInfo& info);
const std::vector<OipOutput>& OipOutputs(bool text);

// What a model's requests must have and its responses do.
inference::ModelMetadataResponse OipMetadata(const ModelInfo& info);

// Before an element of BYTES in raw contents: its length, the lowest byte
// first.
inline constexpr size_t kLengthBytes = 4;
// `raw` has at least these.
uint32_t LengthIn(const std::string& raw);
void AppendLength(size_t length, std::string* raw);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_OIP_TENSORS_H_
