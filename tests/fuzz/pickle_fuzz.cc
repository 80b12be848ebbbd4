// A pytorch_model.bin, every tensor that it promises, and the same bytes as the
// pickle alone: libFuzzer hardly ever finds a CRC that is right.
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "model/checkpoint/torch_zip.h"
#include "model/checkpoint/unpickler.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ounce::model;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)UnpickleStateDict(bytes);

  const auto file = BytesInMemory("pytorch_model.bin", bytes);
  const absl::StatusOr<TensorTable> table = ParseTorchZip(*file);
  if (!table.ok()) return 0;
  for (const auto& [name, tensor] : *table) {
    OUNCE_CHECK(tensor.info.bytes() <= file->size(), "more than the file has");
    std::vector<float> values(tensor.info.elements());
    (void)ReadStoredFloats(*file, name, tensor, 0, values.size(),
                           values.data());
  }
  return 0;
}
