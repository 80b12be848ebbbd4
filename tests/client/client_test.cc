#include "client/client.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "tests/testing/status_matchers.h"

namespace ounce::client {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

// Answers with what it was asked.
class EchoService final : public v1::Inference::Service {
 public:
  grpc::Status DetectObjects(grpc::ServerContext*,
                             const v1::DetectObjectsRequest* request,
                             v1::DetectObjectsResponse* response) override {
    if (request->image().empty()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "image: empty"};
    }
    response->set_method(request->model());
    response->set_image_width(static_cast<int32_t>(request->image().size()));
    response->add_detections()->set_score(request->threshold());
    response->set_model_version(request->max_detections());
    return grpc::Status::OK;
  }
};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.SetMaxReceiveMessageSize(1 << 20);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
    client_ = Client::Create({.server = address_, .admin = address_});
  }

  EchoService service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, DetectsObjects) {
  v1::DetectObjectsRequest request;
  request.set_model("detr");
  request.set_image(std::string(1000, 'x'));
  request.set_threshold(0.25f);
  request.set_max_detections(7);
  ASSERT_OK_AND_ASSIGN(const v1::DetectObjectsResponse response,
                       client_->DetectObjects(request));
  EXPECT_EQ(response.method(), "detr");
  EXPECT_EQ(response.image_width(), 1000);
  EXPECT_EQ(response.detections(0).score(), 0.25f);
  EXPECT_EQ(response.model_version(), 7);
}

TEST_F(ClientTest, PassesOnWhyAPictureWasRefused) {
  EXPECT_THAT(client_->DetectObjects({}),
              StatusIs(absl::StatusCode::kInvalidArgument, "image: empty"));
  v1::DetectObjectsRequest request;
  request.set_image(std::string(2 << 20, 'x'));
  EXPECT_THAT(client_->DetectObjects(request),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("--max_message_bytes")));
}

TEST_F(ClientTest, SaysWhatToDoWhenNothingAnswers) {
  server_->Shutdown();
  EXPECT_THAT(client_->DetectObjects({}),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("nothing answers at " + address_)));
}

}  // namespace
}  // namespace ounce::client
