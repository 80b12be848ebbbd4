// GGUF's block types: where the bits of codes lie in a file. What the codes
// mean is the methods' of the same names (quant/gguf_method.h).
//
// A row is whole blocks, side by side; all numbers are little-endian. Source:
// ggml-org/ggml, src/ggml-common.h and ggml-quants.c.
#ifndef OUNCE_MODEL_CHECKPOINT_GGUF_BLOCKS_H_
#define OUNCE_MODEL_CHECKPOINT_GGUF_BLOCKS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "quant/codes.h"
#include "quant/quant_method.h"

namespace ounce::model {

// Where a block's codes and fields go.
struct GgufPlaces {
  uint8_t* codes;  // one for each column
  // By field of the format, the value of the block's first; those of one field
  // lie side by side.
  float* const* fields;
};

// Where they come from.
struct GgufParts {
  const uint8_t* codes;
  const float* const* fields;
};

struct GgufBlockType {
  uint32_t id;            // in files
  std::string_view name;  // as llama.cpp has it: "Q4_K"
  int64_t cols;
  int64_t bytes;
  const quant::QuantMethod& (*method)();
  void (*unpack)(const uint8_t* block, const GgufPlaces& to);
  // The inverse; null for types that no method makes.
  void (*pack)(const GgufParts& from, uint8_t* block) = nullptr;
  // general.file_type of files that are mostly of this type.
  int file_type = 0;
};

// Null for types that are no blocks, or that are not read.
const GgufBlockType* FindGgufBlockType(uint32_t id);

// The type that holds codes of this format, by its element's label; null where
// none does, or none that is made.
const GgufBlockType* FindGgufBlockTypeOf(const quant::CodeFormat& format);

// The names of all, for messages: "Q4_0, Q4_1, ...".
std::string GgufBlockTypeNames();

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_GGUF_BLOCKS_H_
