// Layers as most checkpoints have them: a weight and a bias under one module.
#ifndef OUNCE_MODEL_READ_LAYERS_H_
#define OUNCE_MODEL_READ_LAYERS_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "model/layers/linear.h"
#include "model/layers/norm.h"
#include "model/weights.h"

namespace ounce::model {

// How a family's norms are made.
struct NormKind {
  NormWeights::Kind kind = NormWeights::Kind::kLayerNorm;
  float epsilon = 1e-5f;
  bool weight = true;     // `name`.weight is there
  bool bias = true;       // `name`.bias is there too
  bool plus_one = false;  // the checkpoint has weights less one (Gemma)
};

// `name`.weight and `name`.bias of `width`, as far as there are any.
absl::StatusOr<NormWeights> ReadNorm(WeightReader& reader,
                                     std::string_view name, int64_t width,
                                     const NormKind& kind);

// One module as a layer of its own.
absl::StatusOr<Linear> ReadLinear(WeightReader& reader, std::string_view module,
                                  int64_t rows, int64_t cols, bool bias,
                                  WeightRole role = WeightRole::kLinear);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_READ_LAYERS_H_
