// A GGUF file: its tensors, under the names they get, and its tokenizer.
#include <string>
#include <vector>

#include "base/check.h"
#include "model/checkpoint/gguf_checkpoint.h"
#include "model/tokenizer/gguf_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ounce::model;
  const auto open = [&](const std::string& path) {
    return BytesInMemory(path, {reinterpret_cast<const char*>(data), size});
  };
  (void)ReadGgufTokenizer(*open("model.gguf"));
  const auto checkpoint =
      OpenGguf("model.gguf",
               [&](const std::string& path)
                   -> absl::StatusOr<std::unique_ptr<ByteSource>> {
                 return open(path);
               });
  if (!checkpoint.ok()) return 0;
  for (const auto& [name, info] : (*checkpoint)->tensors()) {
    // A block of 50 bytes has 256 elements.
    OUNCE_CHECK(info.elements() <= static_cast<int64_t>(size) * 6,
                "more than the file has");
    std::vector<float> values(info.elements());
    (void)(*checkpoint)
        ->ReadFloats(name, 0, static_cast<int64_t>(values.size()),
                     values.data());
  }
  return 0;
}
