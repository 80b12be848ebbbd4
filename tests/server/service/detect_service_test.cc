// DetectObjects, from the wire to a fake engine and back.
#include <future>
#include <limits>
#include <thread>

#include "gmock/gmock.h"
#include "tests/server/service/service_fixture.h"
#include "tests/testing/png_file.h"

namespace ounce::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DetectServiceTest : public ServiceTest {
 protected:
  struct Detected {
    grpc::Status status;
    v1::DetectObjectsResponse response;
  };
  Detected Detect(const v1::DetectObjectsRequest& request) {
    grpc::ClientContext context;
    Detected detected;
    detected.status =
        inference_->DetectObjects(&context, request, &detected.response);
    return detected;
  }
  static v1::DetectObjectsRequest Request(const std::string& image,
                                          const std::string& model = "detr") {
    v1::DetectObjectsRequest request;
    request.set_model(model);
    request.set_image(image);
    return request;
  }
  std::future<Detected> DetectAside(const v1::DetectObjectsRequest& request) {
    return std::async(std::launch::async,
                      [this, request] { return Detect(request); });
  }
  server::DetectStats stats() {
    return (*server::TaskOf<server::ObjectDetection>(*catalog_.Find("detr")))
        ->scheduler->stats();
  }
  FakeDetectEngine& engine() { return catalog_.detect_engine(); }

  // 32 pixels is as high as the model wants it, so it stays as wide as it is.
  const std::string picture_ = MakePng(32, 40);
};

TEST_F(DetectServiceTest, AnswersWithBoxesTheSizeAndWhatItTook) {
  v1::DetectObjectsRequest request = Request(MakePng(64, 80));
  request.set_threshold(0);
  const Detected detected = Detect(request);
  ASSERT_TRUE(detected.status.ok()) << detected.status.error_message();
  const v1::DetectObjectsResponse& response = detected.response;
  ASSERT_EQ(response.detections_size(), 1);
  EXPECT_EQ(response.detections(0).label(), "width 40");
  EXPECT_EQ(response.detections(0).label_id(), 40);
  EXPECT_EQ(response.detections(0).score(), 0.5f);
  EXPECT_EQ(response.detections(0).box().x_min(), 1);
  EXPECT_EQ(response.detections(0).box().y_min(), 2);
  EXPECT_EQ(response.detections(0).box().x_max(), 80);
  EXPECT_EQ(response.detections(0).box().y_max(), 64);
  EXPECT_EQ(response.image_width(), 80);
  EXPECT_EQ(response.image_height(), 64);
  EXPECT_EQ(response.model_seconds(), 0.003);
  EXPECT_GT(response.decode_seconds(), 0);
  EXPECT_GE(response.queue_seconds(), 0);
  EXPECT_EQ(response.model_version(), 3);
  EXPECT_EQ(response.method(), "fake");
  EXPECT_THAT(detect_rejected(), IsEmpty());
  EXPECT_EQ(picture_memory_.used_bytes(), 0);
}

TEST_F(DetectServiceTest, WithoutAThresholdItIsThatOfTheModelCards) {
  const Detected detected = Detect(Request(picture_));
  ASSERT_TRUE(detected.status.ok());
  EXPECT_FLOAT_EQ(detected.response.detections(0).score(), 0.95f);
}

TEST_F(DetectServiceTest, NamesTheFieldThatIsWrong) {
  struct Case {
    std::string field;
    std::function<void(v1::DetectObjectsRequest&)> spoil;
    std::string message;
  };
  const std::vector<Case> cases = {
      {"model", [](auto& r) { r.clear_model(); }, "is empty"},
      {"image", [](auto& r) { r.clear_image(); }, "is empty"},
      {"image", [](auto& r) { r.set_image("hello"); }, ""},
      {"image",
       [](auto& r) { r.mutable_image()->resize(r.image().size() / 2); }, ""},
      {"image", [](auto& r) { r.set_image(MakePng(1, 10'000)); }, ""},
      {"threshold",
       [](auto& r) {
         r.set_threshold(std::numeric_limits<float>::quiet_NaN());
       },
       "is nan"},
      {"threshold", [](auto& r) { r.set_threshold(-0.1f); }, "is -0.1"},
      {"threshold", [](auto& r) { r.set_threshold(1); }, "is 1"},
      {"max_detections", [](auto& r) { r.set_max_detections(1001); },
       "must be at most 1000, is 1001"},
  };
  for (const Case& c : cases) {
    v1::DetectObjectsRequest request = Request(picture_);
    c.spoil(request);
    const grpc::Status status = Detect(request).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << c.field << ": " << status.error_message();
    EXPECT_THAT(status.error_message(),
                AllOf(HasSubstr(c.field), HasSubstr(c.message)));
    const auto details = DetailOf<google::rpc::BadRequest>(status);
    ASSERT_TRUE(details.has_value()) << c.field;
    EXPECT_EQ(details->field_violations(0).field(), c.field);
  }
  EXPECT_EQ(detect_rejected().size(), cases.size());
  EXPECT_THAT(engine().batches(), IsEmpty());
  EXPECT_EQ(picture_memory_.used_bytes(), 0);
  EXPECT_TRUE(Detect(Request(picture_)).status.ok());
}

TEST_F(DetectServiceTest, EachModelSaysWhatItCanDo) {
  const grpc::Status detect = Detect(Request(picture_, "tiny")).status;
  EXPECT_EQ(detect.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(detect.error_message(),
            "model 'tiny' generates text (Generate) and does not detect "
            "objects");
  const std::string refusal =
      "model 'detr' detects objects (DetectObjects) and does not generate "
      "text";
  const Answer generate = Generate(ServiceTest::Request("detr", "abc"));
  EXPECT_EQ(generate.status.error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(generate.status.error_message(), refusal);
  {
    v1::TokenizeRequest request;
    request.set_model("detr");
    v1::TokenizeResponse response;
    grpc::ClientContext context;
    const grpc::Status status =
        inference_->Tokenize(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_EQ(status.error_message(), refusal);
  }
  {
    v1::DetokenizeRequest request;
    request.set_model("detr");
    v1::DetokenizeResponse response;
    grpc::ClientContext context;
    const grpc::Status status =
        inference_->Detokenize(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_EQ(status.error_message(), refusal);
  }
  EXPECT_EQ(Detect(Request(picture_, "other")).status.error_code(),
            grpc::StatusCode::NOT_FOUND);
  const grpc::Status loading = Detect(Request(picture_, "loading")).status;
  EXPECT_EQ(loading.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(loading).has_value());
}

TEST_F(DetectServiceTest, APictureOverTheLimitsIsRefusedForGood) {
  // Too many pixels; and few enough, but never within the memory.
  for (const std::string& bomb :
       {PngOf(16'000, 16'000, ""), PngOf(2'000, 499, "")}) {
    const grpc::Status status = Detect(Request(bomb)).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(status.error_message(), HasSubstr("image: "));
    EXPECT_FALSE(DetailOf<google::rpc::RetryInfo>(status).has_value());
  }
}

TEST_F(DetectServiceTest, TooManyPicturesForTheMemoryMayComeBack) {
  auto others = picture_memory_.Reserve(kPictureMemory - 1000);
  ASSERT_TRUE(others.ok());
  const grpc::Status status = Detect(Request(picture_)).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("too many pictures wait"));
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(status).has_value());
  *others = {};
  EXPECT_TRUE(Detect(Request(picture_)).status.ok());
}

TEST_F(DetectServiceTest, AFullQueueMayBeTriedAgain) {
  engine().Hold();
  std::vector<std::future<Detected>> answers;
  answers.push_back(DetectAside(Request(picture_)));
  engine().AwaitBatch();
  for (int64_t queued = 1; queued <= 2; ++queued) {
    answers.push_back(DetectAside(Request(picture_)));
    ASSERT_TRUE(WaitUntil([&] { return stats().queued == queued; }));
  }
  const grpc::Status status = Detect(Request(picture_)).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("the queue is full"));
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(status).has_value());
  EXPECT_THAT(detect_rejected(), ElementsAre("detr RESOURCE_EXHAUSTED"));
  engine().Free();
  for (auto& answer : answers) EXPECT_TRUE(answer.get().status.ok());
  EXPECT_EQ(picture_memory_.used_bytes(), 0);
}

TEST_F(DetectServiceTest, BadPicturesAreRefusedWhileOthersGoOn) {
  std::vector<std::future<Detected>> good;
  for (int i = 0; i < 2; ++i) good.push_back(DetectAside(Request(picture_)));
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(Detect(Request("no picture")).status.ok());
    EXPECT_FALSE(Detect(Request(PngOf(64, 64, "short"))).status.ok());
  }
  for (auto& answer : good) EXPECT_TRUE(answer.get().status.ok());
}

TEST_F(DetectServiceTest, ACancelledCallLeavesTheQueueAtOnce) {
  engine().Hold();
  auto first = DetectAside(Request(picture_));
  engine().AwaitBatch();
  grpc::ClientContext context;
  auto second = std::async(std::launch::async, [&] {
    v1::DetectObjectsResponse response;
    return inference_->DetectObjects(&context, Request(picture_), &response);
  });
  ASSERT_TRUE(WaitUntil([&] { return stats().queued == 1; }));
  context.TryCancel();
  EXPECT_EQ(second.get().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(WaitUntil([&] { return stats().queued == 0; }));
  engine().Free();
  EXPECT_TRUE(first.get().status.ok());
}

TEST_F(DetectServiceTest, ADeadlineEndsACallThatWaits) {
  engine().Hold();
  auto first = DetectAside(Request(picture_));
  engine().AwaitBatch();
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(1)));
  v1::DetectObjectsResponse response;
  EXPECT_EQ(inference_->DetectObjects(&context, Request(picture_), &response)
                .error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(WaitUntil([&] { return stats().queued == 0; }));
  engine().Free();
  EXPECT_TRUE(first.get().status.ok());
  EXPECT_EQ(engine().batches().size(), 1u);
}

TEST_F(DetectServiceTest, AnErrorOfTheEngineReachesTheClient) {
  engine().Hold();
  auto answer = DetectAside(Request(picture_));
  engine().AwaitBatch();
  engine().Finish(absl::ResourceExhaustedError("no memory for the batch"));
  const grpc::Status status = answer.get().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "no memory for the batch");
}

TEST_F(DetectServiceTest, StoppingRefusesNewPicturesAndEndsTheAcceptedOnes) {
  engine().Hold();
  auto answer = DetectAside(Request(picture_));
  engine().AwaitBatch();
  front_end_->Stop();
  front_end_->FinishReading(absl::InfiniteFuture());
  const grpc::Status refused = Detect(Request(picture_)).status;
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_FALSE(DetailOf<google::rpc::RetryInfo>(refused).has_value());
  engine().Free();
  EXPECT_TRUE(answer.get().status.ok());
  front_end_->Drain(absl::Now() + absl::Seconds(10));
}

}  // namespace
}  // namespace ounce::testing
