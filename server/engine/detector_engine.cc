#include "server/engine/detector_engine.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/byte_size.h"
#include "base/interlude.h"
#include "base/status_macros.h"
#include "model/detector.h"
#include "quant/matmul.h"
#include "quant/scratch.h"
#include "server/engine/sliced_turn.h"
#include "server/scheduler/not_finite.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

// Memory below this is not worth giving back between two batches.
constexpr size_t kSmallScratch = size_t{16} << 20;

// No known detector comes near it on pictures of a sensible size; a config that
// was made to ask for more must not wake the system's out-of-memory killer.
constexpr size_t kMostScratch = size_t{8} << 30;

// Bytes that Scratch takes for so many floats.
size_t FloatBytes(int64_t count) {
  return (static_cast<size_t>(count) * sizeof(float) + 63) / 64 * 64;
}

class DetectorEngine final : public DetectEngine {
 public:
  DetectorEngine(DetectEngineInfo info,
                 std::shared_ptr<const model::Model> model,
                 std::shared_ptr<const model::ImageProcessor> processor,
                 ThreadPool& pool, StepTurns& turns, const Clock& clock,
                 std::unique_ptr<MemoryUse> scratch_use,
                 model::LinearObserver* observer)
      : info_(std::move(info)),
        model_(std::move(model)),
        processor_(std::move(processor)),
        detector_(*model_->detector()),
        pool_(pool),
        turns_(turns),
        clock_(clock),
        scratch_use_(std::move(scratch_use)),
        observer_(observer) {}

  const DetectEngineInfo& info() const override { return info_; }

  absl::Status Run(absl::Span<const DetectItem> items,
                   DetectBatch* batch) override {
    const model::DetectorShape& shape = detector_.shape();
    const int64_t num_labels = static_cast<int64_t>(shape.labels.size());
    const int64_t num_rows =
        static_cast<int64_t>(items.size()) * shape.num_queries;
    std::vector<model::PictureView> views;
    std::vector<model::PictureSize> canvases;
    for (const DetectItem& item : items) {
      const image::Rgb8& rgb = item.picture->rgb;
      const model::PictureSize size = {rgb.height(), rgb.width()};
      views.push_back({rgb.data(), size, size, &processor_->table()});
      canvases.push_back(size);
    }
    RETURN_IF_ERROR(FitScratch(
        DetectorScratchBytes(detector_, canvases, pool_.num_threads())));

    quant::ScratchScope scope(*scratch_);
    const quant::Matrix logits = {
        scratch_->Take<float>(num_rows * (num_labels + 1)), num_rows,
        num_labels + 1, num_labels + 1};
    const quant::Matrix boxes = {scratch_->Take<float>(num_rows * 4), num_rows,
                                 4, 4};
    {
      SlicedTurn turn(pool_, turns_, clock_);
      const ScopedInterlude others(turn);
      detector_.Forward(views, detector_.RunOn(pool_, *scratch_, observer_),
                        logits, boxes);
      batch->waited = turn.waited();
      batch->in_model = turn.taken();
    }
    for (int64_t row = 0; row < num_rows; ++row) {
      for (int64_t label = 0; label <= num_labels; ++label) {
        if (!std::isfinite(logits.row(row)[label])) {
          return NotFinite("scores of a picture", info_.method);
        }
      }
    }

    batch->objects.clear();
    for (size_t i = 0; i < items.size(); ++i) {
      const int64_t first = static_cast<int64_t>(i) * shape.num_queries;
      const auto rows_of = [&](const quant::Matrix& all) {
        return quant::ConstMatrix{all.row(first), shape.num_queries, all.cols,
                                  all.stride};
      };
      std::vector<DetectedObject>& objects = batch->objects.emplace_back();
      const Picture& picture = *items[i].picture;
      for (const model::Detection& found :
           model::PostProcess(rows_of(logits), rows_of(boxes),
                              {picture.original_height, picture.original_width},
                              items[i].threshold, items[i].max_detections)) {
        objects.push_back({shape.labels[found.label_id], found.label_id,
                           found.score, found.x_min, found.y_min, found.x_max,
                           found.y_max});
      }
    }
    return absl::OkStatus();
  }

  void ReleaseMemory() override {
    scratch_ = nullptr;
    if (scratch_use_ != nullptr) (void)scratch_use_->Resize(0);
  }

 private:
  absl::Status FitScratch(size_t bytes) {
    if (scratch_ != nullptr) {
      const size_t capacity = scratch_->capacity();
      const bool far_too_large =
          capacity > kSmallScratch && bytes < capacity / 4;
      if (bytes <= capacity && !far_too_large) return absl::OkStatus();
    }
    if (bytes > kMostScratch) {
      return Refusal(Reason::kPictureTooLarge,
                     absl::StrCat("the model needs ", bytes,
                                  " bytes to work on these pictures; at most ",
                                  kMostScratch, " are given to one"));
    }
    ReleaseMemory();  // never two of them
    if (scratch_use_ != nullptr &&
        !scratch_use_->Resize(static_cast<int64_t>(bytes))) {
      return Refusal(Reason::kMemoryFull,
                     absl::StrCat("memory is short: the model needs ",
                                  FormatByteSize(static_cast<int64_t>(bytes)),
                                  " to work on these pictures"));
    }
    ASSIGN_OR_RETURN(quant::Scratch scratch, quant::Scratch::Create(bytes));
    scratch_ = std::make_unique<quant::Scratch>(std::move(scratch));
    return absl::OkStatus();
  }

  const DetectEngineInfo info_;
  const std::shared_ptr<const model::Model> model_;
  const std::shared_ptr<const model::ImageProcessor> processor_;
  const model::Detector& detector_;
  ThreadPool& pool_;
  StepTurns& turns_;
  const Clock& clock_;
  const std::unique_ptr<MemoryUse> scratch_use_;
  model::LinearObserver* const observer_;
  std::unique_ptr<quant::Scratch> scratch_;
};

}  // namespace

size_t DetectorScratchBytes(const model::Detector& detector,
                            absl::Span<const model::PictureSize> sizes,
                            int threads) {
  const model::DetectorShape& shape = detector.shape();
  const int64_t num_rows =
      static_cast<int64_t>(sizes.size()) * shape.num_queries;
  const auto num_labels = static_cast<int64_t>(shape.labels.size());
  return FloatBytes(num_rows * (num_labels + 1)) + FloatBytes(num_rows * 4) +
         detector.ScratchBytes(sizes, threads);
}

std::unique_ptr<DetectEngine> CreateDetectorEngine(
    DetectEngineInfo info, std::shared_ptr<const model::Model> model,
    std::shared_ptr<const model::ImageProcessor> processor, ThreadPool& pool,
    StepTurns& turns, const Clock& clock,
    std::unique_ptr<MemoryUse> scratch_use, model::LinearObserver* observer) {
  return std::make_unique<DetectorEngine>(
      std::move(info), std::move(model), std::move(processor), pool, turns,
      clock, std::move(scratch_use), observer);
}

}  // namespace ounce::server
