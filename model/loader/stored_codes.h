// What a report says of a tensor, as codes once more: savers write what loading
// packs.
#ifndef OUNCE_MODEL_LOADER_STORED_CODES_H_
#define OUNCE_MODEL_LOADER_STORED_CODES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "quant/codes.h"
#include "quant/float_rows.h"
#include "quant/quant_method.h"

namespace ounce::model {

// The four vectors of a batch norm.
struct BatchNorm {
  std::vector<float> weight;
  std::vector<float> bias;
  std::vector<float> mean;
  std::vector<float> variance;

  // As a factor of each output channel of the convolution before it, in
  // `weight`, and what is added then, in `bias`. `module` is its name, for
  // messages. Errors: kInvalidArgument for a negative variance, and for a
  // channel that is not finite when folded.
  absl::Status Fold(const std::string& module);
};

// The codes of a convolution's weight: its stages see it as the checkpoint has
// it, and then each output channel is times its factor (none: 1).
// Ownership: `weight` must outlive them. Errors: those of MethodSpec::Encode.
absl::StatusOr<std::unique_ptr<const quant::CodeRows>> EncodeFolded(
    const quant::MethodSpec& spec, const quant::FloatRows& weight,
    std::vector<float> factors);

// The codes of a stored matrix, made from the checkpoint as loading makes them,
// or those that it has. A convolution's are [out, in * kernel * kernel], its
// batch norm folded in where the report says so. Requires report.stored_as.
// Errors: those of reading and of encoding.
// Ownership: the checkpoint must outlive them.
absl::StatusOr<std::unique_ptr<const quant::CodeRows>> OpenStoredCodes(
    const Checkpoint& checkpoint, const TensorReport& report);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_STORED_CODES_H_
