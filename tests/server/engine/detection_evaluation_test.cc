// How well a real, small detector finds objects, through the catalog: beside
// its floats, and beside what is said to be there.
#include "server/engine/detection_evaluation.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/processors/image_processor.h"
#include "server/engine/loaded_models.h"
#include "server/scheduler/memory_budget.h"
#include "tests/server/engine/recording_catalog_observer.h"
#include "tests/testing/fake_detect_engine.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_detector.h"

namespace ounce::server {
namespace {

using ::ounce::testing::DetectorRunner;
using ::ounce::testing::kTinyDetectorFolder;
using ::ounce::testing::RecordingDetectSink;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

using absl::StatusCode;

class DetectionEvaluationTest : public ::testing::Test {
 protected:
  ~DetectionEvaluationTest() override { catalog_->Drain(absl::Now()); }

  static Picture Generated(int64_t index) {
    const model::PictureSize size = {70, 96};
    const DetectorRunner::Picture made =
        DetectorRunner::Generated(static_cast<int>(index), size, size);
    Picture picture;
    picture.rgb = *image::Rgb8::Create(size.height, size.width);
    std::copy(made.rgb.begin(), made.rgb.end(), picture.rgb.data());
    picture.original_height = size.height;
    picture.original_width = size.width;
    return picture;
  }
  static EvaluateDetectionParams Pictures(int64_t num_pictures,
                                          bool compare_with_floats = true) {
    return {.num_pictures = num_pictures,
            .read_picture = [](int64_t i) { return Generated(i); },
            .compare_with_floats = compare_with_floats};
  }
  absl::StatusOr<DetectionQuality> Evaluate(
      const EvaluateDetectionParams& params,
      const std::function<absl::Status(int64_t)>& progress = [](int64_t) {
        return absl::OkStatus();
      }) {
    ASSIGN_OR_RETURN(const auto served, catalog_->Find("m"));
    ASSIGN_OR_RETURN(const auto task, TaskOf<ObjectDetection>(served));
    return task->evaluator->Evaluate(params, progress);
  }
  std::vector<DetectedObject> Detect(int64_t index) {
    const auto served = catalog_->Find("m");
    EXPECT_OK(served);
    RecordingDetectSink sink;
    DetectParams params;
    params.picture = Generated(index);
    params.threshold = 0;
    params.arrival = absl::Now();
    EXPECT_OK(TaskOf<ObjectDetection>(*served).value()->scheduler->Submit(
        std::move(params), &sink));
    EXPECT_TRUE(sink.AwaitDone());
    return sink.result().objects;
  }
  void LoadAs(const std::string& plan) {
    ASSERT_OK(catalog_->Load(
        {"m", kTinyDetectorFolder, *model::ParseMethodPlan(plan)}));
  }
  ModelInfo Info() { return catalog_->List().front(); }

  RecordingCatalogObserver observer_;
  ThreadPool pool_{2};
  MemoryBudget budget_{MemoryBudget::Options{.limit_bytes = 256 << 20}};
  std::unique_ptr<ModelCatalog> catalog_ = [this] {
    CatalogOptions options;
    options.memory = &budget_;
    return CreateModelCatalog(options, pool_, Clock::Real(), observer_);
  }();
};

TEST_F(DetectionEvaluationTest, FloatsDoNotDriftFromThemselves) {
  LoadAs("keep");
  ASSERT_OK_AND_ASSIGN(const DetectionQuality quality, Evaluate(Pictures(3)));
  EXPECT_EQ(quality.pictures, 3);
  EXPECT_GT(quality.float_detections, 0);
  EXPECT_EQ(quality.matched, quality.float_detections);
  EXPECT_EQ(quality.mean_box_drift, 0);
  EXPECT_EQ(quality.version, 1);
  EXPECT_FALSE(quality.coco.has_value());
}

TEST_F(DetectionEvaluationTest, FindsWhatAQuantizationToTheSameReports) {
  LoadAs("linear");
  ASSERT_OK_AND_ASSIGN(const DetectionQuality quality, Evaluate(Pictures(3)));
  EXPECT_GT(quality.mean_score_drift, 0);
  EXPECT_EQ(quality.method, "linear");
  EXPECT_EQ(Info().detection->mean_box_drift, quality.mean_box_drift);
  EXPECT_THAT(observer_.events(), Contains("m evaluated v1"));
  QuantizeParams params;
  params.model = "m";
  params.plan = *model::ParseMethodPlan("linear");
  for (int i = 0; i < 3; ++i) {
    params.pictures.push_back(std::make_shared<const Picture>(Generated(i)));
  }
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report,
                       catalog_->Quantize(params, [](const QuantizeUpdate&) {
                         return absl::OkStatus();
                       }));
  EXPECT_EQ(quality.matched, report.detection->matched);
  EXPECT_EQ(quality.float_detections, report.detection->float_detections);
  EXPECT_EQ(quality.quantized_detections,
            report.detection->quantized_detections);
  EXPECT_EQ(quality.mean_score_drift, report.detection->mean_score_drift);
  EXPECT_EQ(quality.mean_box_drift, report.detection->mean_box_drift);
}

TEST_F(DetectionEvaluationTest, BestDetectionsAreAllRightIfTheyAreThere) {
  LoadAs("keep");
  const std::vector<DetectedObject> found = Detect(0);
  ASSERT_FALSE(found.empty());
  const DetectedObject& best = found.front();
  EvaluateDetectionParams params = Pictures(2, /*compare_with_floats=*/false);
  const double width = best.x_max - best.x_min;
  const double height = best.y_max - best.y_min;
  const AnnotatedObject there = {.picture = 0,
                                 .label = best.label,
                                 .x = best.x_min,
                                 .y = best.y_min,
                                 .width = width,
                                 .height = height,
                                 .area = width * height};
  params.objects = {there};
  params.num_pictures = 1;
  ASSERT_OK_AND_ASSIGN(const DetectionQuality all, Evaluate(params));
  ASSERT_TRUE(all.coco.has_value());
  EXPECT_NEAR(all.coco->ap, 1, 1e-9);
  EXPECT_EQ(all.float_detections, 0);
  EXPECT_EQ(all.pictures, 1);
  // What the model has no word for, it never finds.
  params.objects.push_back(there);
  params.objects.back().label = "unicorn";
  ASSERT_OK_AND_ASSIGN(const DetectionQuality half, Evaluate(params));
  EXPECT_NEAR(half.coco->ap, 0.5, 1e-9);
  params.objects.erase(params.objects.begin());
  EXPECT_THAT(Evaluate(params),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("objects: must have a label of the "
                                       "model's"),
                             HasSubstr("'unicorn'"))));
}

TEST_F(DetectionEvaluationTest, FloatsAreInTheBudgetWhileTheyAreThere) {
  LoadAs("linear");
  const int64_t used = budget_.state().used.total();
  const int64_t weights = budget_.state().used[MemoryShare::kWeights];
  int64_t most = 0;
  ASSERT_OK(Evaluate(Pictures(2), [&](int64_t) {
    most = std::max(most, budget_.state().used[MemoryShare::kWeights]);
    return absl::OkStatus();
  }));
  ASSERT_OK_AND_ASSIGN(const ModelInfo floats,
                       catalog_->Load({"floats", kTinyDetectorFolder}));
  EXPECT_EQ(most, weights + floats.resident_bytes);
  ASSERT_OK(catalog_->Unload("floats"));
  EXPECT_EQ(budget_.state().used.total(), used);

  MemoryNeed rest;
  rest[MemoryShare::kPictures] = budget_.state().free_bytes() - 1000;
  ASSERT_OK_AND_ASSIGN(const MemoryBudget::Reservation others,
                       budget_.Reserve(rest, "the test"));
  EXPECT_THAT(Evaluate(Pictures(2)),
              StatusIs(StatusCode::kResourceExhausted,
                       HasSubstr("evaluating 'm' needs")));
}

TEST_F(DetectionEvaluationTest, EndsAtAPictureWhenNobodyWaits) {
  LoadAs("linear");
  const int64_t used = budget_.state().used.total();
  EXPECT_THAT(Evaluate(Pictures(1000),
                       [&](int64_t done) {
                         return done < 2 ? absl::OkStatus()
                                         : absl::CancelledError("gone");
                       }),
              StatusIs(StatusCode::kCancelled, "gone"));
  EXPECT_EQ(budget_.state().used.total(), used);
  EXPECT_FALSE(Info().detection.has_value());
  EvaluateDetectionParams broken = Pictures(3);
  broken.read_picture = [](int64_t i) -> absl::StatusOr<Picture> {
    if (i < 2) return Generated(i);
    return absl::InvalidArgumentError("pictures[2]: is no picture");
  };
  EXPECT_THAT(Evaluate(broken), StatusIs(StatusCode::kInvalidArgument,
                                         "pictures[2]: is no picture"));

  std::thread unload;
  EXPECT_THAT(Evaluate(Pictures(100'000),
                       [&](int64_t done) {
                         if (done == 1 && !unload.joinable()) {
                           unload = std::thread(
                               [&] { EXPECT_OK(catalog_->Unload("m")); });
                         }
                         return absl::OkStatus();
                       }),
              StatusIs(StatusCode::kUnavailable));
  unload.join();
  EXPECT_EQ(budget_.state().used.total(), 0);
}

}  // namespace
}  // namespace ounce::server
