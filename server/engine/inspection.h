// What is in a checkpoint, what a plan would make of it, and the values of a
// tensor: nothing is built, and no more than some rows are in memory.
#ifndef OUNCE_SERVER_ENGINE_INSPECTION_H_
#define OUNCE_SERVER_ENGINE_INSPECTION_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "quant/registry.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

// Of `options` the plan and what models compute in count. `proceed` is asked
// while a tensor is read.
// Errors: those of PlanModel, of reading, and of the method; kNotFound for a
//   tensor that the checkpoint has not (the message has a name that it has),
//   kInvalidArgument for one that is no matrix, with a method, and for one
//   whose dtype is no float.
absl::StatusOr<Inspection> InspectCheckpoint(
    const model::Checkpoint& checkpoint, const model::LoadOptions& options,
    const std::string& tensor, const std::optional<quant::MethodSpec>& method,
    const std::function<absl::Status()>& proceed);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_INSPECTION_H_
