// Detecting objects on a real server, whatever else happens to it.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "tests/e2e/serving.h"
#include "tests/testing/png_file.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

constexpr char kTinyDetector[] = OUNCE_SOURCE_ROOT "/embedded/detr-tiny";

class DetectTest : public testing::ServingTest {
 protected:
  void StartBoth(std::vector<std::string> more = {}) {
    std::vector<std::string> flags = {
        "--model", absl::StrCat("tiny=", testing::kTinyModel), "--model",
        absl::StrCat("detr=", kTinyDetector)};
    flags.insert(flags.end(), more.begin(), more.end());
    Start(flags);
  }

  static std::string Example(const std::string& name) {
    return testing::ReadFile(absl::StrCat(kTinyDetector, "/examples/", name));
  }
  static v1::DetectObjectsRequest Picture(const std::string& image,
                                          const std::string& model = "detr") {
    v1::DetectObjectsRequest request;
    request.set_model(model);
    request.set_image(image);
    request.set_threshold(0.5f);
    return request;
  }
  static v1::QuantizeRequest Quantization(const std::string& method) {
    v1::QuantizeRequest request;
    request.set_model("detr");
    request.set_method(method);
    return request;
  }
  // Of shapes-640x480.jpg on a server that does nothing else.
  v1::DetectObjectsResponse DetectExample() {
    const auto response =
        client_->DetectObjects(Picture(Example("shapes-640x480.jpg")));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.value_or(v1::DetectObjectsResponse());
  }
};

std::vector<std::string> Found(const v1::DetectObjectsResponse& response) {
  std::vector<std::string> found;
  for (const v1::Detection& detection : response.detections()) {
    found.push_back(detection.ShortDebugString());
  }
  return found;
}

TEST_F(DetectTest, FindsShapesInsideThePictureBestFirst) {
  StartBoth();
  const v1::DetectObjectsResponse response = DetectExample();
  EXPECT_EQ(response.image_width(), 640);
  EXPECT_EQ(response.image_height(), 480);
  EXPECT_EQ(response.model_version(), 1);
  EXPECT_NE(response.method(), "");
  EXPECT_GT(response.decode_seconds(), 0);
  EXPECT_GT(response.model_seconds(), 0);
  EXPECT_GE(response.queue_seconds(), 0);
  ASSERT_GT(response.detections_size(), 0);
  float score = 1;
  for (const v1::Detection& detection : response.detections()) {
    EXPECT_NE(detection.label(), "");
    EXPECT_GT(detection.score(), 0.5f);
    EXPECT_LE(detection.score(), score);
    score = detection.score();
    const v1::BoundingBox& box = detection.box();
    EXPECT_GE(box.x_min(), 0);
    EXPECT_LT(box.x_min(), box.x_max());
    EXPECT_LE(box.x_max(), 640);
    EXPECT_GE(box.y_min(), 0);
    EXPECT_LT(box.y_min(), box.y_max());
    EXPECT_LE(box.y_max(), 480);
  }
  EXPECT_EQ(Metric("ounce_detect_requests_total",
                   {"model=\"detr\"", "outcome=\"done\""}),
            1);
  EXPECT_EQ(Metric("ounce_detect_batch_pictures_count"), 1);
  EXPECT_TRUE(
      WaitUntil([&] { return Metric("ounce_pictures_in_flight") == 0; }));
  EXPECT_EQ(Metric("ounce_picture_memory_used_bytes"), 0);
}

TEST_F(DetectTest, ModelsSayWhatTheyCanDo) {
  StartBoth({"--compute", "float32"});
  EXPECT_THAT(Model("detr").tasks(), ElementsAre(v1::TASK_DETECT_OBJECTS));
  EXPECT_EQ(Model("detr").compute(), "float32");
  EXPECT_THAT(Model("tiny").tasks(), ElementsAre(v1::TASK_GENERATE));
  EXPECT_THAT(server_->out(),
              AllOf(HasSubstr("float32"), HasSubstr("DetectObjects")));
  v1::GenerateRequest generate = Request("def f():", 3);
  generate.set_model("detr");
  EXPECT_THAT(Generate(generate),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("detects objects (DetectObjects)")));
  EXPECT_THAT(
      client_->DetectObjects(Picture(Example("shapes-320x240.png"), "tiny")),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr("generates text (Generate)")));
}

TEST_F(DetectTest, CompanyChangesNothingInAPicturesDetections) {
  StartBoth({"--threads", "2"});
  std::vector<std::string> images;
  std::vector<std::vector<std::string>> alone;
  for (const auto& file : std::filesystem::directory_iterator(
           absl::StrCat(kTinyDetector, "/examples"))) {
    if (file.path().extension() == ".json") continue;
    images.push_back(testing::ReadFile(file.path().string()));
    const auto response = client_->DetectObjects(Picture(images.back()));
    ASSERT_TRUE(response.ok()) << response.status();
    alone.push_back(Found(*response));
  }
  ASSERT_GT(images.size(), 1u);
  std::vector<std::thread> threads;
  std::vector<absl::Status> failures[4];
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 4 * images.size(); ++i) {
        const size_t which = (i + t) % images.size();
        const auto response = client_->DetectObjects(Picture(images[which]));
        if (!response.ok()) {
          failures[t].push_back(response.status());
        } else if (Found(*response) != alone[which]) {
          failures[t].push_back(absl::InternalError("other detections"));
        }
      }
    });
  }
  // The other model goes on meanwhile.
  const auto text = Generate(Request("def add(a, b):\n", 50));
  EXPECT_TRUE(text.ok()) << text.status();
  for (std::thread& thread : threads) thread.join();
  for (const auto& of_thread : failures) {
    for (const absl::Status& status : of_thread) ADD_FAILURE() << status;
  }
}

TEST_F(DetectTest, FourClientsDetectWhileTheModelIsQuantized) {
  StartBoth();
  const std::string image = Example("shapes-640x480.jpg");
  std::atomic<bool> enough = false;
  std::atomic<int> requests = 0;
  std::atomic<int64_t> last_version = 0;
  std::vector<absl::Status> failures[4];
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      while (!enough) {
        const auto response = client_->DetectObjects(Picture(image));
        ++requests;
        if (!response.ok()) {
          failures[t].push_back(response.status());
        } else {
          last_version = response->model_version();
        }
      }
    });
  }
  constexpr int kRounds = 6;
  for (int round = 0; round < kRounds; ++round) {
    const int before = requests;
    WaitUntil([&] { return requests > before + 4; });
    v1::QuantizeRequest request =
        Quantization(round % 2 == 0 ? "linear:bits=8" : "float32");
    request.set_convolutions(true);
    request.add_pictures(image);
    const auto report = Quantize(request);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->version(), round + 2);
    EXPECT_EQ(report->detection().pictures(), 1);
  }
  EXPECT_TRUE(WaitUntil([&] { return last_version == kRounds + 1; }));
  enough = true;
  for (std::thread& thread : threads) thread.join();
  for (const auto& of_thread : failures) {
    for (const absl::Status& status : of_thread) ADD_FAILURE() << status;
  }
  for (const char* outcome : {"error", "rejected", "unavailable"}) {
    EXPECT_EQ(Metric("ounce_detect_requests_total",
                     {"model=\"detr\"", absl::StrCat("outcome=\"", outcome)}),
              0);
  }
  absl::PrintF("%d pictures beside %d quantizations, none failed\n",
               requests.load(), kRounds);
}

TEST_F(DetectTest, AReportComparesDetectionsWithThoseOfTheFloats) {
  StartBoth();
  v1::QuantizeRequest request = Quantization("linear:bits=8");
  for (const char* name : {"shapes-640x480.jpg", "shapes-320x240.png"}) {
    request.add_pictures(Example(name));
  }
  const auto report = Quantize(request);
  ASSERT_TRUE(report.ok()) << report.status();
  const v1::DetectionQuality& quality = report->detection();
  EXPECT_EQ(quality.pictures(), 2);
  EXPECT_GT(quality.float_detections(), 0);
  EXPECT_GE(quality.matched(), quality.float_detections() * 8 / 10);
  EXPECT_LT(quality.mean_score_drift(), 0.1);
  EXPECT_LT(quality.mean_box_drift(), 10);
  int convolutions = 0;
  for (const v1::TensorReport& tensor : report->tensors()) {
    if (tensor.kind() != v1::TENSOR_KIND_CONVOLUTION) continue;
    ++convolutions;
    EXPECT_THAT(tensor.method(), HasSubstr("float"));
  }
  EXPECT_GT(convolutions, 0);

  request.add_pictures("no picture");
  EXPECT_THAT(Quantize(request), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("pictures[2]")));
  request.clear_pictures();
  request.add_pictures(Example("shapes-320x240.png"));
  request.set_model("tiny");
  EXPECT_THAT(Quantize(request),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("does not detect objects")));
  EXPECT_EQ(Model("detr").version(), 2);
}

TEST_F(DetectTest, TheCommandFindsTheAveragePrecisionThatPycocotoolsDoes) {
  StartBoth({"--compute", "float32"});
  const std::string examples = absl::StrCat(kTinyDetector, "/examples");
  const std::string annotations = examples + "/annotations.json";
  const auto evaluate = [&](std::vector<std::string> args) {
    args.insert(args.begin(), {"evaluate", "detr"});
    return Cli(args);
  };
  const testing::Finished floats =
      evaluate({"--pictures", examples, "--annotations", annotations,
                "--floats", "--json"});
  ASSERT_EQ(floats.code, 0) << floats.err;
  const auto quality = nlohmann::json::parse(
      floats.out.substr(floats.out.rfind('\n', floats.out.size() - 2) +
                        1))["report"]["detection"];
  EXPECT_EQ(quality["pictures"], 6);
  EXPECT_EQ(quality["matched"], quality["float_detections"]);
  EXPECT_EQ(quality["mean_box_drift"], 0);
  // Of the detections that `ounce detect --threshold 0 --max 100` prints.
  constexpr double kPycocotools[] = {0.9090944719471947, 1.0,    1.0, -1,
                                     0.8901196369636963, 0.95625};
  const auto& coco = quality["coco"];
  EXPECT_NEAR(coco["ap"], kPycocotools[0], 1e-3);
  EXPECT_NEAR(coco["ap50"], kPycocotools[1], 1e-3);
  EXPECT_NEAR(coco["ap75"], kPycocotools[2], 1e-3);
  EXPECT_FALSE(coco.contains("ap_small"));
  EXPECT_NEAR(coco["ap_medium"], kPycocotools[4], 1e-3);
  EXPECT_NEAR(coco["ap_large"], kPycocotools[5], 1e-3);
  EXPECT_NEAR(Metric("ounce_model_coco_ap_ratio", {"model=\"detr\""}),
              coco["ap"].get<double>(), 1e-6);
  EXPECT_EQ(Model("detr").detection().coco().ap(), coco["ap"]);

  ASSERT_OK(Quantize(Quantization("linear:bits=4")));
  const testing::Finished text = evaluate({"--pictures", examples});
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, AllOf(HasSubstr("detr v2 linear:bits=4: 6 pictures"),
                              HasSubstr("BOX DRIFT")));
  EXPECT_THAT(evaluate({"--pictures", annotations}).err,
              HasSubstr("pictures[0]: "));
  EXPECT_THAT(evaluate({"--pictures", folder_.Path(".")}).err,
              HasSubstr("has no files that end in .jpg"));
  EXPECT_THAT(evaluate({"--pictures", examples + "/shapes-300x300.png",
                        "--annotations", folder_.WriteFile("no.json", "{}")})
                  .err,
              HasSubstr("it has no images"));
  EXPECT_THAT(evaluate({}).err, HasSubstr("--text or --pictures"));

  // Nothing to find but crowds, and something in a picture that is not there.
  auto crowds = nlohmann::json::parse(testing::ReadFile(annotations));
  for (auto& annotation : crowds["annotations"]) annotation["iscrowd"] = 1;
  crowds["annotations"].push_back(crowds["annotations"][0]);
  crowds["annotations"].back()["image_id"] = 99;
  const std::vector<std::string> args = {
      "--pictures", examples, "--annotations",
      folder_.WriteFile("crowds.json", crowds.dump())};
  const testing::Finished none = evaluate(args);
  ASSERT_EQ(none.code, 0) << none.err;
  EXPECT_THAT(none.out, AllOf(HasSubstr("none: all annotated objects are "
                                        "crowds, so there is nothing to find"),
                              ::testing::Not(HasSubstr("-1"))));
  EXPECT_THAT(none.err, HasSubstr("crowds.json: annotations of images that it "
                                  "does not list, which do not count: 1, the "
                                  "first of image 99"));
}

TEST_F(DetectTest, BadPicturesAreRefusedWhileOthersGoOn) {
  StartBoth();
  const std::vector<std::string> good = Found(DetectExample());
  std::atomic<bool> enough = false;
  std::vector<absl::Status> failures;
  std::thread others([&] {
    while (!enough) {
      const auto response =
          client_->DetectObjects(Picture(Example("shapes-640x480.jpg")));
      if (!response.ok()) {
        failures.push_back(response.status());
      } else if (Found(*response) != good) {
        failures.push_back(absl::InternalError("other detections"));
      }
    }
  });
  const std::string whole = Example("shapes-640x480.jpg");
  const std::vector<std::pair<std::string, absl::StatusCode>> bad = {
      {"", absl::StatusCode::kInvalidArgument},
      {"GIF89a not for us", absl::StatusCode::kInvalidArgument},
      {std::string(100'000, 'x'), absl::StatusCode::kInvalidArgument},
      {whole.substr(0, 300), absl::StatusCode::kInvalidArgument},
      {whole.substr(0, whole.size() / 2), absl::StatusCode::kInvalidArgument},
      // A few bytes that say they are ten thousand million pixels.
      {testing::PngOf(100'000, 100'000, ""),
       absl::StatusCode::kResourceExhausted},
      {testing::PngOf(16'000, 16'000, ""),
       absl::StatusCode::kResourceExhausted},
      {testing::PngOf(1, 100'000, ""), absl::StatusCode::kResourceExhausted},
      // Rows that are not there.
      {testing::PngOf(4000, 4000, "x"), absl::StatusCode::kInvalidArgument},
  };
  for (const auto& [image, code] : bad) {
    const auto response = client_->DetectObjects(Picture(image));
    EXPECT_THAT(response, StatusIs(code, HasSubstr("image: ")));
  }
  const auto one_pixel =
      client_->DetectObjects(Picture(testing::MakePng(1, 1)));
  EXPECT_TRUE(one_pixel.ok()) << one_pixel.status();
  for (const float threshold : {-0.1f, 1.0f, std::nanf("")}) {
    v1::DetectObjectsRequest request = Picture(whole);
    request.set_threshold(threshold);
    EXPECT_THAT(
        client_->DetectObjects(request),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("threshold: ")));
  }
  enough = true;
  others.join();
  for (const absl::Status& status : failures) ADD_FAILURE() << status;
  EXPECT_EQ(Metric("ounce_detect_requests_total", {"outcome=\"rejected\""}),
            bad.size() + 3);
  EXPECT_EQ(Metric("ounce_picture_memory_used_bytes"), 0);
}

TEST_F(DetectTest, LimitsOfTheServerHold) {
  StartBoth({"--max_picture_pixels", "1000", "--max_message_bytes", "64KiB"});
  EXPECT_TRUE(client_->DetectObjects(Picture(testing::MakePng(20, 50))).ok());
  EXPECT_THAT(client_->DetectObjects(Picture(testing::MakePng(20, 51))),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("51x20"), HasSubstr("1000"))));
  EXPECT_THAT(client_->DetectObjects(Picture(std::string(100'000, 'x'))),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(DetectTest, ConvolutionsAreQuantizedAtStartWhenAskedFor) {
  Start({"--model",
         absl::StrCat("detr=", kTinyDetector,
                      ",method=linear:bits=8,convolutions=true"),
         "--model",
         absl::StrCat("plain=", kTinyDetector, ",method=linear:bits=8")});
  EXPECT_LT(Model("detr").stored_bytes(), Model("plain").stored_bytes());
  EXPECT_GT(DetectExample().detections_size(), 0);
}

TEST_F(DetectTest, AcceptedPicturesEndWhenTheServerIsTold) {
  StartBoth();
  const std::string image = Example("shapes-640x480.jpg");
  std::atomic<bool> stopping = false;
  std::atomic<int> done = 0;
  std::vector<absl::Status> failures[4];
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      while (true) {
        const auto response = client_->DetectObjects(Picture(image));
        if (response.ok()) {
          ++done;
        } else if (stopping && absl::IsUnavailable(response.status())) {
          return;
        } else {
          failures[t].push_back(response.status());
          return;
        }
      }
    });
  }
  ASSERT_TRUE(WaitUntil([&] { return done > 8; }));
  stopping = true;
  Stop();
  for (std::thread& thread : threads) thread.join();
  for (const auto& of_thread : failures) {
    for (const absl::Status& status : of_thread) ADD_FAILURE() << status;
  }
}

}  // namespace
}  // namespace ounce
