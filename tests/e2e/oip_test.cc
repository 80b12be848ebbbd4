// The Open Inference Protocol of a real server with real models.
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "inference/grpc_predict_v2.grpc.pb.h"
#include "tests/e2e/serving.h"

namespace ounce::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr char kService[] = "inference.GRPCInferenceService";

class OipTest : public ServingTest {
 protected:
  using Request = inference::ModelInferRequest;
  using Response = inference::ModelInferResponse;

  void SetUp() override {
    Start({"--model", absl::StrCat("tiny=", kTinyModel), "--model",
           absl::StrCat("shapes=", OUNCE_SOURCE_ROOT "/embedded/detr-tiny")});
    channel_ =
        grpc::CreateChannel(inference_, grpc::InsecureChannelCredentials());
    oip_ = inference::GRPCInferenceService::NewStub(channel_);
  }

  static Request Ask(const std::string& model, const std::string& input,
                     const std::string& bytes) {
    Request request;
    request.set_model_name(model);
    auto* const tensor = request.add_inputs();
    tensor->set_name(input);
    tensor->set_datatype("BYTES");
    tensor->add_shape(1);
    *tensor->mutable_contents()->add_bytes_contents() = bytes;
    return request;
  }
  Response Infer(const Request& request) {
    grpc::ClientContext context;
    Response response;
    const grpc::Status status = oip_->ModelInfer(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<inference::GRPCInferenceService::Stub> oip_;
};

TEST_F(OipTest, GivesTheTextThatGenerateGives) {
  const auto generated = Generate(ServingTest::Request("def add(a, b):", 16));
  ASSERT_TRUE(generated.ok()) << generated.status();
  Request request = Ask("tiny", "text_input", "def add(a, b):");
  (*request.mutable_parameters())["max_tokens"].set_int64_param(16);
  const Response response = Infer(request);
  ASSERT_GE(response.outputs_size(), 1);
  EXPECT_EQ(response.outputs(0).contents().bytes_contents(0), generated->first);
  EXPECT_EQ(response.model_version(), "1");
}

TEST_F(OipTest, FindsTheObjectsThatDetectObjectsFinds) {
  const std::string picture = ReadFile(
      OUNCE_SOURCE_ROOT "/embedded/detr-tiny/examples/shapes-300x300.png");
  v1::DetectObjectsRequest detect;
  detect.set_model("shapes");
  detect.set_image(picture);
  const auto found = client_->DetectObjects(detect);
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_GT(found->detections_size(), 0);
  const Response response = Infer(Ask("shapes", "image", picture));
  ASSERT_EQ(response.outputs_size(), 3);
  const auto& boxes = response.outputs(0).contents().fp32_contents();
  ASSERT_EQ(boxes.size(), 4 * found->detections_size());
  for (int i = 0; i < found->detections_size(); ++i) {
    EXPECT_EQ(boxes[4 * i], found->detections(i).box().x_min());
    EXPECT_EQ(boxes[4 * i + 3], found->detections(i).box().y_max());
    EXPECT_EQ(response.outputs(1).contents().bytes_contents(i),
              found->detections(i).label());
    EXPECT_EQ(response.outputs(2).contents().fp32_contents(i),
              found->detections(i).score());
  }
}

TEST_F(OipTest, HealthAndReflectionNameIt) {
  const auto health = grpc::health::v1::Health::NewStub(channel_);
  grpc::health::v1::HealthCheckRequest check;
  check.set_service(kService);
  grpc::health::v1::HealthCheckResponse serving;
  grpc::ClientContext context;
  EXPECT_TRUE(health->Check(&context, check, &serving).ok());
  EXPECT_EQ(serving.status(), grpc::health::v1::HealthCheckResponse::SERVING);

  const auto reflection =
      grpc::reflection::v1::ServerReflection::NewStub(channel_);
  grpc::ClientContext asking;
  const auto stream = reflection->ServerReflectionInfo(&asking);
  grpc::reflection::v1::ServerReflectionRequest question;
  question.set_list_services("");
  ASSERT_TRUE(stream->Write(question));
  grpc::reflection::v1::ServerReflectionResponse answer;
  ASSERT_TRUE(stream->Read(&answer));
  std::vector<std::string> names;
  for (const auto& service : answer.list_services_response().service()) {
    names.push_back(service.name());
  }
  EXPECT_THAT(names, Contains(kService));
  question.set_file_containing_symbol(kService);
  ASSERT_TRUE(stream->Write(question));
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_THAT(answer.file_descriptor_response().file_descriptor_proto(0),
              HasSubstr("ModelStreamInfer"));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_GE(Metric("ounce_rpc_requests_total",
                   {"rpc=\"inference.GRPCInferenceService/ModelInfer\""}),
            0);
}

TEST_F(OipTest, AStreamThatStandsOpenHoldsUpNoStop) {
  grpc::ClientContext context;
  const auto stream = oip_->ModelStreamInfer(&context);
  ASSERT_TRUE(stream->Write(Ask("tiny", "text_input", "a")));
  inference::ModelStreamInferResponse message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.error_message(), "");
  const absl::Time start = absl::Now();
  Stop();
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_FALSE(stream->Finish().ok());
}

}  // namespace
}  // namespace ounce::testing
