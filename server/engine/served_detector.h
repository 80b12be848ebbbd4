// A served model that detects objects: its image processor and its scheduler.
#ifndef OUNCE_SERVER_ENGINE_SERVED_DETECTOR_H_
#define OUNCE_SERVER_ENGINE_SERVED_DETECTOR_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "model/model.h"
#include "server/engine/served_task.h"

namespace ounce::server {

// A row of served_task.cc's table.
absl::StatusOr<std::shared_ptr<ServedTask>> ReadObjectDetection(
    const model::Model& model, const std::string& folder);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_SERVED_DETECTOR_H_
