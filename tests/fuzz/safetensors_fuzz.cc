// A safetensors file, and every tensor that its header promises.
#include <algorithm>
#include <string>
#include <vector>

#include "base/check.h"
#include "model/checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ounce::model;
  const auto file = BytesInMemory("model.safetensors",
                                  {reinterpret_cast<const char*>(data), size});
  const absl::StatusOr<TensorTable> table = ParseSafetensors(*file);
  if (!table.ok()) return 0;
  for (const auto& [name, tensor] : *table) {
    OUNCE_CHECK(tensor.info.bytes() <= file->size(), "more than the file has");
    if (!ounce::quant::IsFloat(tensor.info.dtype)) continue;
    std::vector<float> values(tensor.info.elements());
    OUNCE_CHECK(
        ReadStoredFloats(*file, name, tensor, 0, values.size(), values.data())
            .ok(),
        "a tensor of the table can be read");
  }
  return 0;
}
