// What stands in front of a GGUF file's data (gguf_file.h), to be written.
#ifndef OUNCE_MODEL_FILES_GGUF_HEADER_H_
#define OUNCE_MODEL_FILES_GGUF_HEADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace ounce::model {

inline constexpr int64_t kGgufAlignment = 32;

struct GgufHeaderTensor {
  std::string name;
  std::vector<int64_t> shape = {};  // row-major
  uint32_t type = 0;                // of ggml
  int64_t offset = 0;               // bytes, from the start of the data
};

// Version 3, padded to where the data begins. `metadata`: numbers, truth
// values, texts, and arrays of one of these, none of them empty. Whole numbers
// are u32, or u64 where they are larger, i32 in arrays and where negative; all
// others are f32.
std::string GgufHeader(const nlohmann::json& metadata,
                       const std::vector<GgufHeaderTensor>& tensors);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_FILES_GGUF_HEADER_H_
