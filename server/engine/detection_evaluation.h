// Pictures through a version of a detector, to see what it finds, beside those
// who are served: a picture at a time, behind them.
#ifndef OUNCE_SERVER_ENGINE_DETECTION_EVALUATION_H_
#define OUNCE_SERVER_ENGINE_DETECTION_EVALUATION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/layers/run.h"
#include "model/model.h"
#include "model/processors/image_processor.h"
#include "server/engine/served_task.h"
#include "server/scheduler/detect_engine.h"
#include "server/scheduler/detection_evaluator.h"

namespace ounce::server {

// The checks of params.objects that need the model.
// Errors: kInvalidArgument naming the field.
absl::Status CheckObjects(const EvaluateDetectionParams& params,
                          const model::Model& model);

// For who looks at what a model finds, not for who is served: an engine that
// has reserved no working memory.
// `method` is the version's, empty of the checkpoint's floats (not_finite.h).
//
// Ownership: shares of model and processor; `context` and `observer`, which may
//   be null, must outlive it.
// Errors of Run: as CreateDetectorEngine's.
std::unique_ptr<DetectEngine> CreateEvaluationEngine(
    const EngineContext& context, std::shared_ptr<const model::Model> model,
    std::shared_ptr<const model::ImageProcessor> processor, std::string method,
    model::LinearObserver* observer = nullptr);

// One picture is in memory at a time. `floats` may be null. The version is left
// to the caller. `progress` is called on the caller's thread.
// Requires what CheckObjects checks.
// Errors: those of the detector's engine, params.read_picture and `progress`.
absl::StatusOr<DetectionQuality> EvaluateDetection(
    const EngineContext& context,
    const std::shared_ptr<const model::Model>& model,
    const std::shared_ptr<const model::Model>& floats,
    const std::shared_ptr<const model::ImageProcessor>& processor,
    const EvaluateDetectionParams& params, const std::string& method,
    const std::function<absl::Status(int64_t)>& progress);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_DETECTION_EVALUATION_H_
