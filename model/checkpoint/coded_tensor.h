// A weight that a checkpoint holds in codes: another tool quantized it, and its
// file has integers, scales and more in tensors of their own. It is served by
// these codes, packed as those of Ounce's methods are; nothing is quantized
// again.
#ifndef OUNCE_MODEL_CHECKPOINT_CODED_TENSOR_H_
#define OUNCE_MODEL_CHECKPOINT_CODED_TENSOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quant/codes.h"
#include "quant/float_rows.h"
#include "quant/params.h"
#include "quant/quant_method.h"

namespace ounce::model {

struct CodedTensor {
  // What these codes are called, and what their format follows from. Its method
  // need not be one that can be asked for.
  quant::MethodSpec spec;
  // CodeFormat::packed_bytes, where `spec` does not say it.
  std::optional<int64_t> packed_bytes = {};
  int64_t bytes = 0;  // CodeFormat::StoredBytes
  // Whether CodeRows::order() says anything.
  bool ordered = false;
  // Of a convolution: its batch norm is folded into the codes, and but for its
  // bias done with.
  bool folded = false;
  // Bits that products with it round their inputs to, 8 or 16
  // (quant/input_rounding.h); 16: as `spec` has it.
  int activations = 16;
  // The codes, [out, in], of the format of `spec` and the tensor's dtype. They
  // read from the checkpoint, which must outlive them.
  std::function<absl::StatusOr<std::unique_ptr<const quant::CodeRows>>()> open =
      {};
};

// A method that names such codes, and what their format follows from. It makes
// none: Encode is kUnimplemented.
class StoredMethod : public quant::QuantMethod {
 public:
  absl::StatusOr<std::unique_ptr<const quant::CodeRows>> Encode(
      const quant::FloatRows& weight,
      const quant::ParamValues& params) const final;
};

struct TensorInfo;

// Checkpoint::ReadFloats of a weight in codes. Requires info.coded.
absl::Status ReadCodedFloats(const std::string& name, const TensorInfo& info,
                             int64_t first, int64_t count, float* out);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_CODED_TENSOR_H_
