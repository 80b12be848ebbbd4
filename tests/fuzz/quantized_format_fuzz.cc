// A config.json with a quantization_config, and after a line end a safetensors
// file: what weights a format finds in it, and their values.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "model/checkpoint/quantized_format.h"
#include "model/checkpoint/safetensors.h"
#include "model/files/json_file.h"
#include "nlohmann/json.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ounce::model;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\n'), input.size());
  const auto config = ParseJsonObject("config.json", input.substr(0, end));
  if (!config.ok()) return 0;
  TensorFiles files;
  files.files.push_back(BytesInMemory(
      "model.safetensors", input.substr(std::min(end + 1, input.size()))));
  const absl::StatusOr<TensorTable> table = ParseSafetensors(*files.files[0]);
  if (!table.ok()) return 0;
  for (const auto& [name, tensor] : *table) {
    files.tensors.emplace(name,
                          TensorFiles::Place{files.files[0].get(), tensor});
  }
  const absl::StatusOr<CodedTensors> found =
      FindCodedTensors("folder", *config, files);
  if (!found.ok()) return 0;
  for (const auto& [name, info] : found->weights) {
    const auto codes = info.coded->open();
    if (!codes.ok()) continue;
    const int64_t rows = std::min<int64_t>((*codes)->rows(), 17);
    std::vector<float> values(rows * (*codes)->cols());
    (void)ounce::quant::ReadValues(**codes, (*codes)->rows() - rows, rows,
                                   values.data());
  }
  return 0;
}
