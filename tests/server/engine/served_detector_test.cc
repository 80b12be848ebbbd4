// A real, small DETR through the catalog: what it finds, in company and alone,
// and quantized while it serves.
#include "server/engine/served_detector.h"

#include <malloc.h>

#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mapped_memory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/processors/image_processor.h"
#include "server/engine/loaded_models.h"
#include "tests/server/engine/recording_catalog_observer.h"
#include "tests/testing/fake_detect_engine.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/tiny_detector.h"
#include "tests/testing/tiny_model.h"

namespace ounce::server {
namespace {

using ::ounce::testing::DetectorOutputs;
using ::ounce::testing::DetectorRunner;
using ::ounce::testing::kOtherTinyDetectorFolder;
using ::ounce::testing::kTinyDetectorFolder;
using ::ounce::testing::kTinyModelFolder;
using ::ounce::testing::RecordingDetectSink;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

using absl::StatusCode;

constexpr int64_t kMiB = int64_t{1} << 20;

class ServedDetectorTest : public ::testing::Test {
 protected:
  ~ServedDetectorTest() override {
    if (catalog_ != nullptr) catalog_->Drain(absl::Now());
  }

  void Create(const CatalogOptions& options) {
    catalog_ = CreateModelCatalog(options, pool_, Clock::Real(), observer_);
  }
  void SetUp() override { Create({}); }

  // A copy of a tiny detector that the test may spoil.
  std::string Copy(const std::string& model) {
    std::string copy =
        folder_.Path(std::filesystem::path(model).filename().string());
    std::filesystem::copy(model, copy,
                          std::filesystem::copy_options::recursive);
    return copy;
  }

  // Generated picture `index`, as if it had been prepared.
  static Picture Generated(int index, int64_t height, int64_t width) {
    const DetectorRunner::Picture made =
        DetectorRunner::Generated(index, {height, width}, {height, width});
    Picture picture;
    picture.rgb = *image::Rgb8::Create(height, width);
    std::copy(made.rgb.begin(), made.rgb.end(), picture.rgb.data());
    picture.original_height = height;
    picture.original_width = width;
    return picture;
  }
  RecordingDetectSink& Start(const std::string& model, Picture picture) {
    RecordingDetectSink& sink = sinks_.emplace_back();
    const auto served = catalog_->Find(model);
    EXPECT_OK(served);
    if (!served.ok()) return sink;
    held_.push_back(*served);
    DetectParams params;
    params.picture = std::move(picture);
    params.threshold = 0;
    params.arrival = absl::Now();
    EXPECT_OK(TaskOf<ObjectDetection>(*served).value()->scheduler->Submit(
        std::move(params), &sink));
    return sink;
  }
  DetectResult Detect(const std::string& model, Picture picture) {
    RecordingDetectSink& sink = Start(model, std::move(picture));
    EXPECT_TRUE(sink.AwaitDone());
    EXPECT_OK(sink.status());
    return sink.result();
  }

  static QuantizeParams ToInt8(const std::string& model) {
    QuantizeParams params;
    params.model = model;
    params.plan = *model::ParseMethodPlan("linear");
    return params;
  }
  static QuantizeParams WithPictures(QuantizeParams params) {
    for (int i = 0; i < 3; ++i) {
      params.pictures.push_back(
          std::make_shared<const Picture>(Generated(i, 70, 96)));
    }
    return params;
  }
  absl::StatusOr<QuantizeReport> Quantize(const QuantizeParams& params) {
    return catalog_->Quantize(
        params, [](const QuantizeUpdate&) { return absl::OkStatus(); });
  }
  ModelInfo InfoOf(const std::string& name) {
    const auto served = catalog_->Find(name);
    EXPECT_OK(served);
    return (*served)->info();
  }

  const TempFolder folder_;
  RecordingCatalogObserver observer_;
  ThreadPool pool_{2};
  std::unique_ptr<ModelCatalog> catalog_;
  std::deque<RecordingDetectSink> sinks_;
  std::vector<std::shared_ptr<ServedModel>> held_;  // as services do
};

void ExpectSame(const std::vector<DetectedObject>& found,
                const std::vector<DetectedObject>& wanted) {
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].label_id, wanted[i].label_id);
    EXPECT_EQ(found[i].score, wanted[i].score);
    EXPECT_EQ(found[i].x_min, wanted[i].x_min);
    EXPECT_EQ(found[i].y_min, wanted[i].y_min);
    EXPECT_EQ(found[i].x_max, wanted[i].x_max);
    EXPECT_EQ(found[i].y_max, wanted[i].y_max);
  }
}

TEST_F(ServedDetectorTest, FindsWhatTheModelAloneFinds) {
  ASSERT_OK(catalog_->Load({"detr", kTinyDetectorFolder}));
  const auto checkpoint = ounce::testing::OpenDetrGolden(kTinyDetectorFolder);
  ASSERT_OK_AND_ASSIGN(const model::LoadedModel loaded,
                       model::LoadModel(*checkpoint, {}));
  const model::Detector& detector = *loaded.model->detector();
  DetectorRunner runner(detector, 1);
  const model::PictureSize size = {70, 96};
  const DetectorOutputs outputs =
      runner.Run({DetectorRunner::Generated(0, size, size)});
  const int64_t queries = detector.shape().num_queries;
  const auto classes = static_cast<int64_t>(detector.shape().labels.size()) + 1;
  const std::vector<model::Detection> wanted =
      model::PostProcess({outputs.logits.data(), queries, classes, classes},
                         {outputs.boxes.data(), queries, 4, 4}, size, 0, 100);

  const DetectResult result = Detect("detr", Generated(0, 70, 96));
  ASSERT_EQ(result.objects.size(), wanted.size());
  ASSERT_FALSE(wanted.empty());
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(result.objects[i].label_id, wanted[i].label_id);
    EXPECT_EQ(result.objects[i].label,
              detector.shape().labels[wanted[i].label_id]);
    // The processor rounds each step of the normalization, the runner does not.
    EXPECT_NEAR(result.objects[i].score, wanted[i].score, 1e-4);
    EXPECT_NEAR(result.objects[i].x_min, wanted[i].x_min, 1e-2);
    EXPECT_NEAR(result.objects[i].y_max, wanted[i].y_max, 1e-2);
  }
  EXPECT_GT(result.in_model, absl::ZeroDuration());
}

TEST_F(ServedDetectorTest, APictureGivesTheSameToTheBitAloneAndInABatch) {
  const std::vector<std::pair<int64_t, int64_t>> sizes = {
      {70, 96}, {49, 61}, {33, 200}, {120, 31}, {64, 64}, {71, 95}};
  for (const quant::Compute compute :
       {quant::Compute::kFloat32, quant::Compute::kBFloat16}) {
    for (const std::string plan : {"keep", "@convolution=linear linear"}) {
      std::vector<std::vector<DetectedObject>> results[2];
      for (const int64_t batch : {int64_t{1}, int64_t{6}}) {
        CatalogOptions options;
        options.compute = compute;
        options.detection.max_batch_pictures = batch;
        options.detection.max_wait = absl::Minutes(1);
        Create(options);
        ASSERT_OK(catalog_->Load(
            {"detr", kTinyDetectorFolder, *model::ParseMethodPlan(plan)}));
        std::vector<RecordingDetectSink*> sinks;
        for (size_t i = 0; i < sizes.size(); ++i) {
          sinks.push_back(&Start(
              "detr",
              Generated(static_cast<int>(i), sizes[i].first, sizes[i].second)));
        }
        for (RecordingDetectSink* sink : sinks) {
          ASSERT_TRUE(sink->AwaitDone());
          ASSERT_OK(sink->status());
          results[batch > 1].push_back(sink->result().objects);
        }
        catalog_->Drain(absl::InfiniteFuture());
        held_.clear();
      }
      for (size_t i = 0; i < sizes.size(); ++i) {
        ASSERT_FALSE(results[0][i].empty());
        ExpectSame(results[1][i], results[0][i]);
      }
    }
  }
}

TEST_F(ServedDetectorTest, SaysWhatItIs) {
  CatalogOptions options;
  options.compute = quant::Compute::kBFloat16;
  Create(options);
  ASSERT_OK_AND_ASSIGN(const ModelInfo info,
                       catalog_->Load({"detr", kTinyDetectorFolder}));
  EXPECT_EQ(info.architecture, "detr");
  EXPECT_THAT(info.tasks, ElementsAre(Task::kDetectObjects));
  EXPECT_EQ(info.compute, "bfloat16");
  EXPECT_EQ(info.method, "float32");
  EXPECT_EQ(info.version, 1);
  EXPECT_GT(info.parameters, 0);
  ASSERT_OK_AND_ASSIGN(const ModelInfo text,
                       catalog_->Load({"text", kTinyModelFolder}));
  EXPECT_THAT(text.tasks, ElementsAre(Task::kGenerate));
  EXPECT_EQ(text.compute, "bfloat16");
  ASSERT_OK_AND_ASSIGN(const auto served, catalog_->Find("detr"));
  EXPECT_OK(TaskOf<ObjectDetection>(served));
  EXPECT_THAT(TaskOf<TextGeneration>(served),
              StatusIs(StatusCode::kFailedPrecondition,
                       "model 'detr' detects objects (DetectObjects) and does "
                       "not generate text"));
  ASSERT_OK_AND_ASSIGN(const auto generates, catalog_->Find("text"));
  EXPECT_OK(TaskOf<TextGeneration>(generates));
  EXPECT_THAT(TaskOf<ObjectDetection>(generates),
              StatusIs(StatusCode::kFailedPrecondition,
                       "model 'text' generates text (Generate) and does not "
                       "detect objects"));
}

// Left to us, the CPU decides for detectors; text is computed in float32.
TEST_F(ServedDetectorTest, EachTaskHasAComputeOfItsOwnUnlessToldOne) {
  CatalogOptions options;
  options.compute = std::nullopt;
  Create(options);
  ASSERT_OK(catalog_->Load({"detr", kTinyDetectorFolder}));
  ASSERT_OK(catalog_->Load({"text", kTinyModelFolder}));
  EXPECT_EQ(InfoOf("detr").compute, quant::ComputeName(quant::FasterCompute()));
  EXPECT_EQ(InfoOf("text").compute, "float32");
  // Nor does a quantization change that.
  ASSERT_OK(Quantize(ToInt8("text")));
  EXPECT_EQ(InfoOf("text").compute, "float32");
}

TEST_F(ServedDetectorTest, ReadsTheCheckpointsImageProcessor) {
  const std::string copy = Copy(kTinyDetectorFolder);
  folder_.WriteFile("bottleneck/preprocessor_config.json",
                    R"({"size": {"shortest_edge": 64, "longest_edge": 100}})");
  ASSERT_OK(catalog_->Load({"detr", copy}));
  ASSERT_OK_AND_ASSIGN(const auto served, catalog_->Find("detr"));
  ASSERT_OK_AND_ASSIGN(
      const model::PictureSize size,
      TaskOf<ObjectDetection>(served).value()->processor->TargetSize(128, 256));
  EXPECT_EQ(size.height, 50);
  EXPECT_EQ(size.width, 100);
  folder_.WriteFile("bottleneck/preprocessor_config.json", "{");
  EXPECT_THAT(catalog_->Load({"broken", copy}),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("preprocessor_config.json")));
}

TEST_F(ServedDetectorTest, QuantizesWhileItServes) {
  ASSERT_OK(catalog_->Load({"detr", kTinyDetectorFolder}));
  const DetectResult before = Detect("detr", Generated(0, 70, 96));
  EXPECT_EQ(before.model_version, 1);
  EXPECT_EQ(before.method, "float32");
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report, Quantize(ToInt8("detr")));
  EXPECT_EQ(report.version, 2);
  EXPECT_LT(report.stored_bytes_after, report.stored_bytes_before);
  EXPECT_FALSE(report.detection.has_value());
  const DetectResult after = Detect("detr", Generated(0, 70, 96));
  EXPECT_EQ(after.model_version, 2);
  EXPECT_THAT(after.method, HasSubstr("linear"));

  const auto stored_by = [&](const QuantizeReport& from, TensorKind kind) {
    std::vector<std::string> methods;
    for (const TensorOutcome& tensor : from.tensors) {
      if (tensor.kind == kind) methods.push_back(tensor.method);
    }
    return methods;
  };
  EXPECT_THAT(stored_by(report, TensorKind::kLinear),
              Contains(HasSubstr("linear")));
  EXPECT_THAT(stored_by(report, TensorKind::kConvolution),
              Not(Contains(HasSubstr("linear"))));
  EXPECT_THAT(stored_by(report, TensorKind::kHead),
              Not(Contains(HasSubstr("linear"))));
  EXPECT_FALSE(stored_by(report, TensorKind::kVector).empty());

  // Convolutions too; beside the other, and then not at all.
  QuantizeParams params = ToInt8("detr");
  params.plan = *model::ParseMethodPlan("@convolution=linear linear");
  params.as = "small";
  ASSERT_OK_AND_ASSIGN(const QuantizeReport small, Quantize(params));
  EXPECT_EQ(small.model, "small");
  EXPECT_EQ(small.version, 1);
  EXPECT_LT(small.stored_bytes_after, report.stored_bytes_after);
  EXPECT_THAT(stored_by(small, TensorKind::kConvolution),
              Contains(HasSubstr("linear")));
  EXPECT_EQ(Detect("small", Generated(0, 70, 96)).model_version, 1);
  EXPECT_EQ(InfoOf("detr").version, 2);
  params.as = "";
  params.dry_run = true;
  ASSERT_OK_AND_ASSIGN(const QuantizeReport dry, Quantize(params));
  EXPECT_EQ(dry.version, 0);
  EXPECT_EQ(dry.stored_bytes_after, small.stored_bytes_after);
  EXPECT_EQ(InfoOf("detr").version, 2);
}

TEST_F(ServedDetectorTest, TheWayBackToFloatGivesTheFirstAnswersAgain) {
  ASSERT_OK(catalog_->Load({"detr", kTinyDetectorFolder}));
  const DetectResult before = Detect("detr", Generated(0, 70, 96));
  ASSERT_OK(Quantize(ToInt8("detr")));
  QuantizeParams back = ToInt8("detr");
  back.plan = *model::ParseMethodPlan("float32");
  ASSERT_OK(Quantize(back));
  const DetectResult after = Detect("detr", Generated(0, 70, 96));
  EXPECT_EQ(after.model_version, 3);
  ExpectSame(after.objects, before.objects);
}

TEST_F(ServedDetectorTest, ComparesDetectionsWithThoseOfTheFloats) {
  ASSERT_OK(catalog_->Load({"detr", kTinyDetectorFolder}));
  QuantizeParams same = WithPictures(ToInt8("detr"));
  same.plan = *model::ParseMethodPlan("float32");
  ASSERT_OK_AND_ASSIGN(const QuantizeReport to_itself, Quantize(same));
  ASSERT_TRUE(to_itself.detection.has_value());
  EXPECT_EQ(to_itself.detection->pictures, 3);
  EXPECT_GT(to_itself.detection->float_detections, 0);
  EXPECT_EQ(to_itself.detection->matched,
            to_itself.detection->float_detections);
  EXPECT_EQ(to_itself.detection->mean_score_drift, 0);
  EXPECT_EQ(to_itself.detection->mean_box_drift, 0);

  // The serving version is float here, and quantized the second time: the
  // comparison is the same.
  ASSERT_OK_AND_ASSIGN(const QuantizeReport first,
                       Quantize(WithPictures(ToInt8("detr"))));
  ASSERT_OK_AND_ASSIGN(const QuantizeReport second,
                       Quantize(WithPictures(ToInt8("detr"))));
  ASSERT_TRUE(first.detection.has_value());
  ASSERT_TRUE(second.detection.has_value());
  EXPECT_GT(first.detection->mean_score_drift, 0);
  EXPECT_LT(first.detection->mean_score_drift, 0.05);
  EXPECT_EQ(second.detection->float_detections,
            first.detection->float_detections);
  EXPECT_EQ(second.detection->matched, first.detection->matched);
  EXPECT_EQ(second.detection->mean_score_drift,
            first.detection->mean_score_drift);
  EXPECT_EQ(second.detection->mean_box_drift, first.detection->mean_box_drift);
}

TEST_F(ServedDetectorTest, PicturesAreForDetectorsAlone) {
  ASSERT_OK(catalog_->Load({"text", kTinyModelFolder}));
  EXPECT_THAT(Quantize(WithPictures(ToInt8("text"))),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("generates text (Generate)")));
  EXPECT_EQ(InfoOf("text").version, 1);
  EXPECT_EQ(InfoOf("text").state, ModelState::kReady);
}

TEST_F(ServedDetectorTest, WhoeverGivesUpAtAPictureLeavesAllAsItWas) {
  ASSERT_OK(catalog_->Load(
      {"detr", kTinyDetectorFolder, *model::ParseMethodPlan("linear")}));
  const DetectResult before = Detect("detr", Generated(0, 70, 96));
  // Each call in its turn is the one at which the client is gone.
  int calls = 0;
  for (int last = 0;; ++last) {
    calls = 0;
    const auto report = catalog_->Quantize(
        WithPictures(ToInt8("detr")), [&](const QuantizeUpdate&) {
          return calls++ == last ? absl::CancelledError("gone")
                                 : absl::OkStatus();
        });
    if (report.ok()) break;
    ASSERT_THAT(report, StatusIs(StatusCode::kCancelled));
    ASSERT_EQ(InfoOf("detr").version, 1);
    ASSERT_EQ(InfoOf("detr").state, ModelState::kReady);
  }
  EXPECT_GT(calls, 6);  // each picture twice, at least
  EXPECT_EQ(InfoOf("detr").version, 2);
  ExpectSame(Detect("detr", Generated(0, 70, 96)).objects, before.objects);
}

TEST_F(ServedDetectorTest, TwoDetectorsAndATextModelServeAtTheSameTime) {
  ASSERT_OK(catalog_->Load({"one", kTinyDetectorFolder}));
  ASSERT_OK(catalog_->Load({"two", kOtherTinyDetectorFolder}));
  ASSERT_OK(catalog_->Load({"text", kTinyModelFolder}));
  const auto one = Detect("one", Generated(0, 70, 96)).objects;
  const auto two = Detect("two", Generated(0, 70, 96)).objects;
  constexpr int kPictures = 20;
  std::vector<RecordingDetectSink*> sinks;
  sinks.reserve(kPictures);
  for (int i = 0; i < kPictures; ++i) {
    sinks.push_back(&Start(i % 2 == 0 ? "one" : "two", Generated(0, 70, 96)));
  }
  for (size_t i = 0; i < sinks.size(); ++i) {
    ASSERT_TRUE(sinks[i]->AwaitDone());
    ASSERT_OK(sinks[i]->status());
    ExpectSame(sinks[i]->result().objects, i % 2 == 0 ? one : two);
  }
}

TEST_F(ServedDetectorTest, UnloadingLetsAcceptedPicturesEnd) {
  CatalogOptions options;
  options.detection.max_wait = absl::Minutes(1);
  Create(options);
  ASSERT_OK(catalog_->Load({"detr", kTinyDetectorFolder}));
  RecordingDetectSink& sink = Start("detr", Generated(0, 70, 96));
  ASSERT_OK(catalog_->Unload("detr"));
  EXPECT_EQ(sink.times_done(), 1);
  EXPECT_OK(sink.status());
  EXPECT_THAT(catalog_->Find("detr"), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(observer_.events(), Contains("detr removed"));
}

class ServedDetectorMemoryTest : public ServedDetectorTest {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "AddressSanitizer holds back freed memory and adds its own,"
                    " so resident bytes are not the server's";
#endif
    mallopt(M_MMAP_THRESHOLD, 64 << 10);  // as the server does
    CatalogOptions options;
    options.detection.max_idle = idle_;
    Create(options);
    ASSERT_OK(catalog_->Load({"detr", kTinyDetectorFolder}));
    Detect("detr", Generated(0, 70, 96));
    before_ = ResidentBytes();
  }
  void DetectLarge() {
    Detect("detr", Generated(0, 1000, 1300));
    EXPECT_GT(ResidentBytes() - before_, 16 * kMiB);
  }

  absl::Duration idle_ = absl::Hours(1);
  int64_t before_ = 0;
};

TEST_F(ServedDetectorMemoryTest, ASmallPictureGivesBackWhatALargeOneTook) {
  DetectLarge();
  Detect("detr", Generated(0, 70, 96));
  sinks_.clear();
  EXPECT_LT(ResidentBytes() - before_, 8 * kMiB);
}

class ServedDetectorIdleTest : public ServedDetectorMemoryTest {
 protected:
  ServedDetectorIdleTest() { idle_ = absl::Milliseconds(200); }
};

TEST_F(ServedDetectorIdleTest, WithoutPicturesWorkingMemoryGoesBack) {
  DetectLarge();
  const absl::Time end = absl::Now() + absl::Seconds(30);
  while (ResidentBytes() - before_ > 8 * kMiB && absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_LT(ResidentBytes() - before_, 8 * kMiB);
  EXPECT_EQ(Detect("detr", Generated(0, 70, 96)).model_version, 1);
}

TEST_F(ServedDetectorMemoryTest, ManyBatchesAndSwapsTakeNoMoreThanAFew) {
  for (int i = 0; i < 3; ++i) {
    Detect("detr", Generated(i, 300, 400));
    ASSERT_OK(Quantize(ToInt8("detr")));
  }
  const int64_t few = ResidentBytes();
  for (int i = 0; i < 12; ++i) {
    Detect("detr", Generated(i, 300 + 10 * i, 400));
    ASSERT_OK(Quantize(ToInt8("detr")));
    sinks_.clear();
  }
  EXPECT_LT(ResidentBytes() - few, 12 * kMiB);
}

}  // namespace
}  // namespace ounce::server
