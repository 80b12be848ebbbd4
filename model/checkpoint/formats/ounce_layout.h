// Ounce's own layout of codes in safetensors, shared by what reads and what
// writes it; docs/format.md describes it field by field.
#ifndef OUNCE_MODEL_CHECKPOINT_FORMATS_OUNCE_LAYOUT_H_
#define OUNCE_MODEL_CHECKPOINT_FORMATS_OUNCE_LAYOUT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "quant/codes.h"
#include "quant/dtype.h"

namespace ounce::model {

inline constexpr std::string_view kOunceLayout = "ounce";  // quant_method
inline constexpr int64_t kOunceLayoutVersion = 1;

// A tensor that a weight in codes is made of.
struct OunceTensor {
  std::string suffix;  // behind the weight's name: ".codes", ".scale"
  quant::DType dtype = quant::DType::kU8;
  int64_t count = 0;  // elements; of integers the bytes of their stream
};

// The codes, then each field. Requires a format of integers.
std::vector<OunceTensor> OunceTensors(const quant::CodeFormat& format,
                                      int64_t rows, int64_t cols);

// What a field's values are stored in; of integers kU8.
quant::DType OunceFieldDType(const quant::CodeField& field);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_FORMATS_OUNCE_LAYOUT_H_
