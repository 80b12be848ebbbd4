// Why a tensor may be missing from a checkpoint: what its other names tell.
#ifndef OUNCE_MODEL_CHECKPOINT_MISSING_TENSOR_H_
#define OUNCE_MODEL_CHECKPOINT_MISSING_TENSOR_H_

#include <string>
#include <string_view>

#include "model/checkpoint/checkpoint.h"

namespace ounce::model {

// To go behind "... is missing": what the checkpoint is and what to do about
// it, if its names show that (a wrapper's prefix, an adapter, a model without
// its head, an index of shards that promises what is not there); else empty.
std::string WhyMissing(const Checkpoint& checkpoint, std::string_view name);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_MISSING_TENSOR_H_
