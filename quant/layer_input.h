// What a layer of the network reads, to see what becomes of its outputs.
#ifndef OUNCE_QUANT_LAYER_INPUT_H_
#define OUNCE_QUANT_LAYER_INPUT_H_

#include <cstdint>
#include <vector>

namespace ounce::quant {

// Rows of x, by column: element (row, col) is at col * rows + row.
struct LayerInput {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> columns;
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_LAYER_INPUT_H_
