// The scheduler's engine on a model that finds objects: one version of its
// weights, and working memory of its own.
#ifndef OUNCE_SERVER_ENGINE_DETECTOR_ENGINE_H_
#define OUNCE_SERVER_ENGINE_DETECTOR_ENGINE_H_

#include <cstddef>
#include <memory>

#include "absl/types/span.h"
#include "base/clock.h"
#include "base/thread_pool.h"
#include "model/detector.h"
#include "model/model.h"
#include "model/processors/image_processor.h"
#include "server/engine/step_turns.h"
#include "server/scheduler/detect_engine.h"
#include "server/scheduler/memory_budget.h"

namespace ounce::server {

// Bytes of working memory for a batch of pictures of these sizes.
size_t DetectorScratchBytes(const model::Detector& detector,
                            absl::Span<const model::PictureSize> sizes,
                            int threads);

// A batch of large pictures takes long, so its turn is given up to those who
// want one after 20 ms, as often as it takes: streams of text go on meanwhile.
// What is found does not depend on it.
//
// Working memory is one mapping, as large as the largest batch has needed; it
// is made smaller for a batch that needs less than a quarter, and given back by
// ReleaseMemory. `scratch_use`, if there is one, says whether it may be had.
//
// Ownership: shares of model and processor; `pool`, `turns`, `clock` and
//   `observer`, which may be null, must outlive it.
// Requires a detector, and pictures prepared by `processor`.
// Errors of Run: kResourceExhausted when a batch would take more than 8 GiB of
//   working memory, or memory is short (refusal.h); NotFinite's when the
//   model's outputs are not.
std::unique_ptr<DetectEngine> CreateDetectorEngine(
    DetectEngineInfo info, std::shared_ptr<const model::Model> model,
    std::shared_ptr<const model::ImageProcessor> processor, ThreadPool& pool,
    StepTurns& turns, const Clock& clock,
    std::unique_ptr<MemoryUse> scratch_use = nullptr,
    model::LinearObserver* observer = nullptr);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_DETECTOR_ENGINE_H_
