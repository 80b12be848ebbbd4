#include "server/engine/served_detector.h"

#include <cstdint>
#include <utility>

#include "base/status_macros.h"
#include "model/detector.h"
#include "server/engine/detection_quality.h"
#include "server/engine/detector_engine.h"

namespace ounce::server {
namespace {

class ServedDetector final : public VersionedModel {
 public:
  ServedDetector(const EngineContext& context, const ModelInfo& info,
                 const BuiltVersion& built,
                 std::shared_ptr<const model::DetrImageProcessor> processor)
      : VersionedModel(info, built.folder, built.fingerprint),
        context_(context),
        processor_(std::move(processor)),
        observer_(context.observe_detection(info.name)) {
    if (built.has_own_floats) own_floats_ = built.model;
  }

  // Once, before anything else. Errors: as DetectScheduler::Create.
  absl::Status Start(const ModelInfo& info, BuiltVersion built) {
    const std::weak_ptr<VersionMemory> memory = built.memory;
    std::shared_ptr<DetectEngine> engine =
        MakeEngine({info.version, info.method}, std::move(built));
    NoteVersion(info.version, memory, engine);
    ASSIGN_OR_RETURN(
        scheduler_,
        DetectScheduler::Create(context_.options.detection, std::move(engine),
                                context_.clock, *observer_));
    return absl::OkStatus();
  }

  DetectScheduler* detect_scheduler() override { return scheduler_.get(); }
  const model::DetrImageProcessor* image_processor() const override {
    return processor_.get();
  }

  absl::StatusOr<std::shared_ptr<VersionedModel>> ServeBeside(
      const std::string& name, const std::string& path,
      BuiltVersion built) const override {
    return ServeDetector(context_, name, path, std::move(built), processor_);
  }

  MemoryNeed NeedOf(const model::Model& model,
                    const model::LoadReport& report) const override {
    return DetectorNeed(context_, *model.detector(), report, *processor_);
  }
  Companions companions() const override {
    return {.image_processor = processor_};
  }

  void Drain(absl::Time deadline) override { scheduler_->Drain(deadline); }
  void Empty() override {}  // no engine is held after Drain

  std::shared_ptr<const model::Model> own_floats() const override {
    MutexLock lock(&mu_);
    return own_floats_.lock();
  }

  absl::StatusOr<std::vector<Detections>> Detect(
      std::shared_ptr<const model::Model> model,
      absl::Span<const std::shared_ptr<const Picture>> pictures,
      const std::function<absl::Status()>& proceed) const override {
    const std::unique_ptr<DetectEngine> engine = CreateDetectorEngine(
        {}, std::move(model), processor_, context_.pool, context_.turns,
        context_.clock,
        std::make_unique<MemoryUse>(context_.memory, MemoryShare::kScratch, 0));
    std::vector<Detections> found;
    DetectBatch batch;
    // One by one, so that requests to the serving models get their turns.
    for (const std::shared_ptr<const Picture>& picture : pictures) {
      RETURN_IF_ERROR(proceed());
      const DetectItem item = {picture.get(), kQualityThreshold, INT64_MAX};
      RETURN_IF_ERROR(engine->Run({&item, 1}, &batch));
      found.push_back(std::move(batch.objects.front()));
    }
    return found;
  }

 private:
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
    {
      MutexLock lock(&mu_);
      own_floats_.reset();
      if (built.has_own_floats) own_floats_ = built.model;
    }
    const std::weak_ptr<VersionMemory> memory = built.memory;
    const DetectEngineInfo info = {version, built.report.method};
    std::shared_ptr<DetectEngine> engine = MakeEngine(info, std::move(built));
    NoteVersion(version, memory, engine);
    scheduler_->SetEngine(std::move(engine));
    return absl::OkStatus();
  }
  SchedulerStats stats() const override {
    const DetectStats stats = scheduler_->stats();
    return {.queued = stats.queued, .running = stats.running};
  }

  const EngineContext& context_;
  const std::shared_ptr<const model::DetrImageProcessor> processor_;
  const std::unique_ptr<DetectObserver> observer_;

  mutable Mutex mu_;
  // Not held: the scheduler's engine does that while it serves.
  std::weak_ptr<const model::Model> own_floats_ ABSL_GUARDED_BY(mu_);

  std::unique_ptr<DetectScheduler> scheduler_;  // first to go
};

}  // namespace

MemoryNeed DetectorNeed(const EngineContext& context,
                        const model::Detector& detector,
                        const model::LoadReport& report,
                        const model::DetrImageProcessor& processor) {
  MemoryNeed need;
  need[MemoryShare::kWeights] = report.resident_bytes;
  // As large as a picture becomes by transformers' defaults, or as this
  // processor makes it.
  const auto size = processor.TargetSize(800, 1333);
  if (size.ok()) {
    need[MemoryShare::kScratch] = static_cast<int64_t>(DetectorScratchBytes(
        detector, {&*size, 1}, context.pool.num_threads()));
  }
  return need;
}

absl::StatusOr<std::shared_ptr<VersionedModel>> ServeDetector(
    const EngineContext& context, const std::string& name,
    const std::string& path, BuiltVersion built,
    std::shared_ptr<const model::DetrImageProcessor> processor) {
  ModelInfo info = NewModelInfo(name, path, built);
  info.tasks = {Task::kDetectObjects};
  info.compute = quant::ComputeName(built.model->detector()->compute());
  auto served = std::make_shared<ServedDetector>(context, info, built,
                                                 std::move(processor));
  RETURN_IF_ERROR(served->Start(info, std::move(built)));
  return served;
}

}  // namespace ounce::server
