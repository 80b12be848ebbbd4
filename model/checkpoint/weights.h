// Weights as an architecture asks for them, by name and shape; the policy that
// picks each one's method works behind it.
#ifndef OUNCE_MODEL_CHECKPOINT_WEIGHTS_H_
#define OUNCE_MODEL_CHECKPOINT_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "quant/packed_weight.h"

namespace ounce::model {

using SharedWeight = std::shared_ptr<const quant::PackedWeight>;

// What a matrix is for. By default only kLinear is quantized; kHead (lm_head)
// and kEmbedding stay as the checkpoint has them.
enum class WeightRole { kLinear, kHead, kEmbedding };

// Threads: one at a time.
// Errors, each with the tensor's name: kInvalidArgument for one that is missing
//   or of another shape (found, wanted); what its method or file returns;
//   kCancelled when the one who loads gave up.
class WeightReader {
 public:
  virtual ~WeightReader() = default;

  virtual bool Has(std::string_view name) const = 0;

  // Tensor `module` + ".weight" of shape [rows, cols], packed. Asking again for
  // the same tensor, or for one that shares its storage, gives the same weight.
  virtual absl::StatusOr<SharedWeight> Matrix(std::string_view module,
                                              int64_t rows, int64_t cols,
                                              WeightRole role) = 0;

  // Tensor `name` of shape [size], as float32.
  virtual absl::StatusOr<std::vector<float>> Vector(std::string_view name,
                                                    int64_t size) = 0;

  // Tensors whose names match this glob (`*` and `?`) are known not to be
  // needed (mask buffers of old checkpoints). Others left over at the end are
  // reported.
  virtual void Ignore(std::string_view glob) = 0;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_WEIGHTS_H_
