#include "server/engine/served_detector.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/detector.h"
#include "model/processors/image_processor.h"
#include "server/engine/detection_evaluation.h"
#include "server/engine/detection_quality.h"
#include "server/engine/detector_engine.h"
#include "server/engine/evaluations.h"
#include "server/engine/float_version.h"
#include "server/engine/versioned_model.h"

namespace ounce::server {
namespace {

class ServedDetector final : public VersionedModel, public DetectionEvaluator {
 public:
  ServedDetector(const EngineContext& context, const ModelInfo& info,
                 const BuiltVersion& built,
                 std::shared_ptr<const ServedTask> served_task,
                 std::shared_ptr<const model::ImageProcessor> processor)
      : VersionedModel(info, built, std::move(served_task)),
        context_(context),
        processor_(std::move(processor)),
        observer_(Observe(context, info.name)) {}

  // Once, before anything else. Errors: as DetectScheduler::Create.
  absl::Status Start(const ModelInfo& info, BuiltVersion built) {
    const std::weak_ptr<VersionMemory> memory = built.memory;
    std::shared_ptr<DetectEngine> engine =
        MakeEngine({info.version, info.method}, std::move(built));
    NoteVersion(info.version, info.method, memory, engine);
    ASSIGN_OR_RETURN(
        scheduler_,
        DetectScheduler::Create(context_.options.detection, std::move(engine),
                                context_.clock, *observer_));
    task_ = ObjectDetection{scheduler_.get(), processor_.get(),
                            /*evaluator=*/this};
    return absl::OkStatus();
  }

  const TaskInterface& task() const override { return task_; }
  void Drain(absl::Time deadline) override {
    evaluations_.End();
    scheduler_->Drain(deadline);
    evaluations_.AwaitEnd();
  }
  void Empty() override {}  // no engine is held after Drain

  absl::StatusOr<DetectionQuality> Evaluate(
      const EvaluateDetectionParams& params,
      const std::function<absl::Status(int64_t)>& progress) override {
    const Evaluations::Running running(evaluations_);
    const auto proceed = [&](int64_t pictures_done) -> absl::Status {
      RETURN_IF_ERROR(running.CheckWanted());
      return progress(pictures_done);
    };
    RETURN_IF_ERROR(proceed(0));
    ASSIGN_OR_RETURN(const Pinned pinned, Pin());
    RETURN_IF_ERROR(CheckObjects(params, *pinned.model));
    std::shared_ptr<const model::Model> floats;
    if (params.compare_with_floats) {
      ASSIGN_OR_RETURN(
          floats, FloatVersionOf(context_, *this,
                                 absl::StrCat("evaluating '", info().name, "'"),
                                 [&] { return proceed(0); }));
    }
    ASSIGN_OR_RETURN(
        DetectionQuality quality,
        EvaluateDetection(context_, pinned.model, floats, processor_, params,
                          pinned.method, proceed));
    quality.version = pinned.version;
    NoteQuality(quality);
    MutexLock lock(&context_.observer_mutex);
    context_.observer.OnDetectionEvaluated(info().name, quality);
    return quality;
  }

 private:
  static std::unique_ptr<DetectObserver> Observe(const EngineContext& context,
                                                 const std::string& model) {
    MutexLock lock(&context.observer_mutex);
    return context.observer.ObserveDetection(model);
  }

  // Its working memory begins with what the version has reserved for it.
  std::shared_ptr<DetectEngine> MakeEngine(DetectEngineInfo info,
                                           BuiltVersion built) const {
    const std::shared_ptr<VersionMemory> memory = built.memory.lock();
    return CreateDetectorEngine(
        std::move(info), std::move(built.model), processor_, context_.pool,
        context_.turns, context_.clock,
        std::make_unique<MemoryUse>(
            context_.memory, MemoryShare::kScratch,
            memory->reservation.need()[MemoryShare::kScratch]));
  }

  absl::Status SetEngine(int64_t version, BuiltVersion built) override {
    const std::weak_ptr<VersionMemory> memory = built.memory;
    const DetectEngineInfo info = {version, built.report.method};
    std::shared_ptr<DetectEngine> engine = MakeEngine(info, std::move(built));
    NoteVersion(version, engine->info().method, memory, engine);
    scheduler_->SetEngine(std::move(engine));
    return absl::OkStatus();
  }
  SchedulerStats stats() const override {
    const DetectStats stats = scheduler_->stats();
    return {.queued = stats.queued,
            .running = stats.running,
            .detected_pictures = stats.detected};
  }

  const EngineContext& context_;
  const std::shared_ptr<const model::ImageProcessor> processor_;
  const std::unique_ptr<DetectObserver> observer_;
  Evaluations evaluations_;

  TaskInterface task_ = ObjectDetection();      // since Start
  std::unique_ptr<DetectScheduler> scheduler_;  // first to go
};

class DetectionTask final : public ServedTask {
 public:
  explicit DetectionTask(std::shared_ptr<const model::ImageProcessor> processor)
      : processor_(std::move(processor)) {}

  MemoryNeed NeedOfVersion(const EngineContext& context,
                           const model::Model& model,
                           const model::LoadReport& report) const override {
    MemoryNeed need;
    need[MemoryShare::kWeights] = report.resident_bytes;
    // As large as a picture becomes by transformers' defaults, or as this
    // processor makes it.
    const auto size = processor_->TargetSize(800, 1333);
    if (size.ok()) {
      need[MemoryShare::kScratch] = static_cast<int64_t>(DetectorScratchBytes(
          *model.detector(), {&*size, 1}, context.pool.num_threads()));
    }
    return need;
  }

  MemoryNeed NeedOfNewModel(const EngineContext& context,
                            const model::Model& model,
                            const model::LoadReport& report) const override {
    return NeedOfVersion(context, model, report);
  }

  absl::StatusOr<std::shared_ptr<VersionedModel>> Serve(
      const EngineContext& context, const std::string& name,
      const std::string& path, BuiltVersion built) const override {
    ModelInfo info = NewModelInfo(name, path, built);
    info.tasks = {Task::kDetectObjects};
    auto served = std::make_shared<ServedDetector>(
        context, info, built, shared_from_this(), processor_);
    RETURN_IF_ERROR(served->Start(info, std::move(built)));
    return served;
  }

  absl::StatusOr<std::vector<Detections>> Detect(
      const EngineContext& context, std::shared_ptr<const model::Model> model,
      std::string method,
      absl::Span<const std::shared_ptr<const Picture>> pictures,
      const std::function<absl::Status()>& proceed,
      model::LinearObserver* observer) const override {
    const std::unique_ptr<DetectEngine> engine = CreateEvaluationEngine(
        context, std::move(model), processor_, std::move(method), observer);
    std::vector<Detections> found;
    DetectBatch batch;
    StepTurns::Behind behind(context.turns);
    // One by one, so that requests to the serving models get their turns.
    for (const std::shared_ptr<const Picture>& picture : pictures) {
      RETURN_IF_ERROR(proceed());
      behind.LetPass();
      const DetectItem item = {picture.get(), kQualityThreshold, INT64_MAX};
      RETURN_IF_ERROR(engine->Run({&item, 1}, &batch));
      found.push_back(std::move(batch.objects.front()));
    }
    return found;
  }

 private:
  const std::shared_ptr<const model::ImageProcessor> processor_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<ServedTask>> ReadObjectDetection(
    const model::Model& model, const std::string& folder) {
  ASSIGN_OR_RETURN(auto processor,
                   model::LoadImageProcessor(folder, model.architecture()));
  return std::make_shared<DetectionTask>(std::move(processor));
}

}  // namespace ounce::server
