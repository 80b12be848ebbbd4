#include "model/read_layers.h"

#include <string>

#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::model {

absl::StatusOr<NormWeights> ReadNorm(WeightReader& reader,
                                     std::string_view name, int64_t width,
                                     const NormKind& kind) {
  NormWeights norm;
  norm.kind = kind.kind;
  norm.epsilon = kind.epsilon;
  if (kind.weight) {
    ASSIGN_OR_RETURN(norm.weight,
                     reader.Vector(StrCat(name, ".weight"), width));
  }
  if (kind.plus_one) {
    for (float& weight : norm.weight) weight += 1;
  }
  if (kind.bias) {
    ASSIGN_OR_RETURN(norm.bias, reader.Vector(StrCat(name, ".bias"), width));
  }
  return norm;
}

absl::StatusOr<Linear> ReadLinear(WeightReader& reader, std::string_view module,
                                  int64_t rows, int64_t cols, bool bias,
                                  WeightRole role) {
  return reader.ReadLinear(
      {{.module = std::string(module), .rows = rows, .bias = bias}}, cols,
      role);
}

}  // namespace ounce::model
