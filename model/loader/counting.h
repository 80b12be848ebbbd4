// What a model's bytes are by the rules that people count by: a published
// figure says what was saved, and seldom of what. Rules differ in the dtype of
// what no method stores, in whether buffers count, and in which of the numbers
// beside codes do.
#ifndef OUNCE_MODEL_LOADER_COUNTING_H_
#define OUNCE_MODEL_LOADER_COUNTING_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "model/mask_buffers.h"
#include "quant/dtype.h"
#include "quant/quant_method.h"

namespace ounce::model {

struct CountingRule {
  std::string_view name;  // goes to the wire, so never renamed
  std::string_view help;
  // Of the model before, and of what is kept, and scales are rounded to, after;
  // absent: the checkpoint's dtypes.
  std::optional<quant::DType> before = {};
  std::optional<quant::DType> after = {};
  bool mask_buffers = false;
  bool codes_alone = false;  // no scales, nor other numbers beside codes
};

// The first is that of all other figures in reports.
absl::Span<const CountingRule> CountingRules();

// A tensor that is stored, as its bytes follow from it.
struct CountedTensor {
  int64_t rows = 0;
  int64_t cols = 0;
  quant::DType dtype = quant::DType::kF32;  // in the checkpoint
  quant::MethodSpec spec = {};
  bool kept = false;  // as in the checkpoint: `spec` keeps it
  // Of codes that the checkpoint has; absent: it has floats of `dtype`.
  std::optional<int64_t> coded_bytes = {};
  // CodeFormat::packed_bytes of these, if they are kept and `spec` does not say
  // it.
  std::optional<int64_t> packed_bytes = {};
  bool is_second = false;  // the checkpoint has it under another name
  bool is_folded = false;  // into others, and not stored
};

struct Footprint {
  const CountingRule* rule = nullptr;
  int64_t before = 0;
  int64_t after = 0;
};

// By each rule that says something of a model with these buffers, and in whose
// dtype the tensors' specs have codes (a scale that is given may fit float32
// alone).
std::vector<Footprint> CountFootprints(absl::Span<const CountedTensor> tensors,
                                       const MaskBuffers& buffers);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_COUNTING_H_
