// The list of architectures. To add one: a file in model/arch/, a line in
// architectures.def and its goldens (docs/contributing.md).
#ifndef OUNCE_MODEL_REGISTRY_H_
#define OUNCE_MODEL_REGISTRY_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/checkpoint/checkpoint.h"
#include "model/config_reader.h"
#include "model/model.h"
#include "model/weights.h"
#include "quant/compute.h"

namespace ounce::model {

struct Architecture {
  std::string_view name;         // model_type of config.json
  std::string_view models = "";  // those people know, for docs/models.md
  absl::Span<const ConfigKey> keys = {};  // of the config's class
  // What published checkpoints bring as code of their own (auto_map) is what
  // transformers has taken in, and therefore this network.
  bool takes_published_code = false;
  // Reads the config, asks `weights` for all it needs. The model's products of
  // floats are computed in `compute`.
  absl::StatusOr<std::unique_ptr<const Model>> (*create)(
      const Checkpoint& checkpoint, quant::Compute compute,
      WeightReader& weights);
  // What a load that leaves the compute to us takes: quant::FasterCompute(), or
  // else the reference, float32.
  bool auto_is_faster = false;
};

// In the order of architectures.def.
absl::Span<const Architecture* const> AllArchitectures();

// By config.json's model_type. kUnimplemented with what was found and what is
// known; kInvalidArgument when there is no model_type.
absl::StatusOr<const Architecture*> FindArchitecture(
    const Checkpoint& checkpoint);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_REGISTRY_H_
