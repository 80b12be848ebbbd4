// A served model that detects objects: its image processor and its scheduler.
#ifndef OUNCE_SERVER_ENGINE_SERVED_DETECTOR_H_
#define OUNCE_SERVER_ENGINE_SERVED_DETECTOR_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "model/detector.h"
#include "model/loader/loader.h"
#include "model/processors/detr_image_processor.h"
#include "server/engine/versioned_model.h"
#include "server/scheduler/memory_budget.h"

namespace ounce::server {

// What a version takes, with working memory for one large picture.
MemoryNeed DetectorNeed(const EngineContext& context,
                        const model::Detector& detector,
                        const model::LoadReport& report,
                        const model::DetrImageProcessor& processor);

// Requires a detector and its image processor. Ownership: as Serve.
// Errors: kResourceExhausted.
absl::StatusOr<std::shared_ptr<VersionedModel>> ServeDetector(
    const EngineContext& context, const std::string& name,
    const std::string& path, BuiltVersion built,
    std::shared_ptr<const model::DetrImageProcessor> processor);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_SERVED_DETECTOR_H_
