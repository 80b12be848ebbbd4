#include "server/engine/detection_evaluation.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/detector.h"
#include "server/engine/background_thread.h"
#include "server/engine/coco_average_precision.h"
#include "server/engine/detection_quality.h"
#include "server/engine/detector_engine.h"
#include "server/engine/step_turns.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

// COCO counts no more of a picture.
constexpr int64_t kMaxDetections = 100;

// What of each picture average precision is computed from.
class CocoPictures {
 public:
  explicit CocoPictures(const EvaluateDetectionParams& params)
      : pictures_(params.num_pictures) {
    for (const AnnotatedObject& object : params.objects) {
      const auto [label, is_new] = categories_.try_emplace(
          object.label, static_cast<int64_t>(categories_.size()));
      pictures_[object.picture].objects.push_back(
          {.category = label->second,
           .box = {object.x, object.y, object.width, object.height},
           .area = object.area,
           .crowd = object.crowd});
    }
  }

  void AddFound(int64_t picture, const Detections& found) {
    for (const DetectedObject& object : found) {
      const auto label = categories_.find(object.label);
      if (label == categories_.end()) continue;
      const double x = object.x_min;
      const double y = object.y_min;
      pictures_[picture].detections.push_back(
          {.category = label->second,
           .box = {x, y, object.x_max - x, object.y_max - y},
           .score = object.score});
    }
  }

  CocoAveragePrecision Compute() const {
    return ComputeCocoAveragePrecision(pictures_);
  }

 private:
  std::map<std::string, int64_t> categories_;
  std::vector<CocoPicture> pictures_;
};

}  // namespace

absl::Status CheckObjects(const EvaluateDetectionParams& params,
                          const model::Model& model) {
  if (params.objects.empty()) return absl::OkStatus();
  const std::vector<std::string>& labels = model.detector()->shape().labels;
  for (const AnnotatedObject& object : params.objects) {
    if (std::find(labels.begin(), labels.end(), object.label) != labels.end()) {
      return absl::OkStatus();
    }
  }
  return FieldError(
      "objects",
      absl::StrCat("must have a label of the model's, such as '",
                   labels.front(), "', have '", params.objects.front().label,
                   "' and others like it"));
}

std::unique_ptr<DetectEngine> CreateEvaluationEngine(
    const EngineContext& context, std::shared_ptr<const model::Model> model,
    std::shared_ptr<const model::ImageProcessor> processor, std::string method,
    model::LinearObserver* observer) {
  return CreateDetectorEngine(
      {.method = std::move(method)}, std::move(model), std::move(processor),
      context.pool, context.turns, context.clock,
      std::make_unique<MemoryUse>(context.memory, MemoryShare::kScratch, 0),
      observer);
}

absl::StatusOr<DetectionQuality> EvaluateDetection(
    const EngineContext& context,
    const std::shared_ptr<const model::Model>& model,
    const std::shared_ptr<const model::Model>& floats,
    const std::shared_ptr<const model::ImageProcessor>& processor,
    const EvaluateDetectionParams& params, const std::string& method,
    const std::function<absl::Status(int64_t)>& progress) {
  const std::unique_ptr<DetectEngine> engine =
      CreateEvaluationEngine(context, model, processor, method);
  const std::unique_ptr<DetectEngine> float_engine =
      floats == nullptr ? nullptr
                        : CreateEvaluationEngine(context, floats, processor,
                                                 /*method=*/"");
  CocoPictures coco(params);
  std::vector<Detections> found, float_found;
  int64_t done = 0;
  RETURN_IF_ERROR(RunInBackground(
      [&](Waiter& waiter) -> absl::Status {
        StepTurns::Behind behind(context.turns);
        DetectBatch batch;
        for (int64_t i = 0; i < params.num_pictures; ++i) {
          RETURN_IF_ERROR(waiter.Ask([&] { return progress(done = i); }));
          ASSIGN_OR_RETURN(const Picture picture, params.read_picture(i));
          const DetectItem item = {&picture, /*threshold=*/0, kMaxDetections};
          behind.LetPass();
          RETURN_IF_ERROR(engine->Run({&item, 1}, &batch));
          coco.AddFound(i, batch.objects.front());
          found.push_back(AboveQualityThreshold(batch.objects.front()));
          if (float_engine == nullptr) continue;
          behind.LetPass();
          RETURN_IF_ERROR(float_engine->Run({&item, 1}, &batch));
          float_found.push_back(AboveQualityThreshold(batch.objects.front()));
        }
        return absl::OkStatus();
      },
      [&] { return progress(done); }, {.patience = absl::InfiniteDuration()}));
  DetectionQuality quality;
  if (floats != nullptr) {
    quality = CompareDetections(float_found, found);
  } else {
    quality.pictures = params.num_pictures;
    for (const Detections& in_picture : found) {
      quality.quantized_detections += static_cast<int64_t>(in_picture.size());
    }
  }
  quality.method = method;
  if (!params.objects.empty()) quality.coco = coco.Compute();
  return quality;
}

}  // namespace ounce::server
