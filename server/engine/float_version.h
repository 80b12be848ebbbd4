// A checkpoint's floats as a whole model, for as long as a version is compared
// with them: for networks that do not run a piece at a time (float_pieces.h).
#ifndef OUNCE_SERVER_ENGINE_FLOAT_VERSION_H_
#define OUNCE_SERVER_ENGINE_FLOAT_VERSION_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/model.h"
#include "server/engine/served_task.h"
#include "server/engine/versioned_model.h"

namespace ounce::server {

// Those of `served`'s checkpoint: the serving version's weights if they are
// these, else a model that is read from its folder. Its memory is set aside
// before, for `who` in messages, until nobody holds the model.
//
// `proceed` is asked while files are read; its first error ends the work.
// Errors: those of ReopenCheckpoint, MemoryBudget::Reserve and
//   model::LoadModel.
absl::StatusOr<std::shared_ptr<const model::Model>> FloatVersionOf(
    const EngineContext& context, const VersionedModel& served,
    const std::string& who, const std::function<absl::Status()>& proceed);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_FLOAT_VERSION_H_
