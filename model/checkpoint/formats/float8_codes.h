// 8-bit floats with a scale for each row, block or matrix: the codes of several
// formats, which differ in what they call the scales. A value is code * scale.
#ifndef OUNCE_MODEL_CHECKPOINT_FORMATS_FLOAT8_CODES_H_
#define OUNCE_MODEL_CHECKPOINT_FORMATS_FLOAT8_CODES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "model/checkpoint/quantized_format.h"
#include "quant/codes.h"

namespace ounce::model {

// What a file has of one weight.
struct Float8Tensors {
  std::string codes;   // float8 [out, in]
  std::string scales;  // floats, as many as `reach` has values
  quant::Reach reach = {};
};

// The weight of a module. Its codes are called fp8.
absl::Status AddFloat8(const QuantizedSource& source, const std::string& module,
                       const Float8Tensors& tensors, CodedTensors& found);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_FORMATS_FLOAT8_CODES_H_
