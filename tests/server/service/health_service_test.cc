#include "server/service/health_service.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"

namespace ounce::server {
namespace {

using grpc::health::v1::Health;
using ::testing::HasSubstr;
using Request = grpc::health::v1::HealthCheckRequest;
using Response = grpc::health::v1::HealthCheckResponse;

Request Named(const std::string& name) {
  Request request;
  request.set_service(name);
  return request;
}

// A Watch of a name, by a peer of its own.
class WatchCall {
 public:
  WatchCall(Health::Stub& stub, const Request& request,
            const std::string& peer = "192.0.2.1") {
    context_.AddMetadata("x-forwarded-for", peer);
    context_.set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(1)));
    reader_ = stub.Watch(&context_, request);
  }

  // UNKNOWN at the end.
  Response::ServingStatus Next() {
    Response response;
    return reader_->Read(&response) ? response.status() : Response::UNKNOWN;
  }
  grpc::Status Finish() { return reader_->Finish(); }
  void Cancel() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<Response>> reader_;
};

class HealthServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(&health_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = Health::NewStub(
        grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                            grpc::InsecureChannelCredentials()));
  }

  grpc::Status Check(const Request& request, Response* response) {
    grpc::ClientContext context;
    return stub_->Check(&context, request, response);
  }
  Response::ServingStatus StatusOf(const std::string& name) {
    Response response;
    const grpc::Status status = Check(Named(name), &response);
    EXPECT_TRUE(status.ok()) << name << ": " << status.error_message();
    return response.status();
  }

  HealthService health_{*PeerSet::Parse("127.0.0.1")};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Health::Stub> stub_;
};

TEST_F(HealthServiceTest, ChecksTheNamesThatThereAre) {
  health_.SetServing("", true);
  health_.SetServing("models/tiny", false);
  EXPECT_EQ(StatusOf(""), Response::SERVING);
  EXPECT_EQ(StatusOf("models/tiny"), Response::NOT_SERVING);
  EXPECT_EQ(StatusOf("liveness"), Response::SERVING);
  health_.Remove("models/tiny");
  Response response;
  const grpc::Status gone = Check(Named("models/tiny"), &response);
  EXPECT_EQ(gone.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(gone.error_message(), "nothing is named 'models/tiny'");
}

TEST_F(HealthServiceTest, AWatchHearsTheStatusAtOnceAndThenEachChange) {
  health_.SetServing("other", true);
  WatchCall watch(*stub_, Named("models/tiny"));
  EXPECT_EQ(watch.Next(), Response::SERVICE_UNKNOWN);
  health_.SetServing("models/tiny", false);
  EXPECT_EQ(watch.Next(), Response::NOT_SERVING);
  health_.SetServing("models/tiny", false);
  health_.SetServing("other", false);
  health_.SetServing("models/tiny", true);
  EXPECT_EQ(watch.Next(), Response::SERVING);
  health_.Remove("models/tiny");
  EXPECT_EQ(watch.Next(), Response::SERVICE_UNKNOWN);
}

TEST_F(HealthServiceTest, AStopIsForGoodAndLeavesTheLiveness) {
  health_.SetServing("", true);
  WatchCall watch(*stub_, Named(""));
  EXPECT_EQ(watch.Next(), Response::SERVING);
  health_.StopServing();
  EXPECT_EQ(watch.Next(), Response::NOT_SERVING);
  health_.SetServing("", true);
  health_.SetServing("late", true);
  EXPECT_EQ(StatusOf(""), Response::NOT_SERVING);
  EXPECT_EQ(StatusOf("late"), Response::NOT_SERVING);
  EXPECT_EQ(StatusOf("liveness"), Response::SERVING);
}

TEST_F(HealthServiceTest, WatchesEndAfterTheirLastStatus) {
  health_.SetServing("", true);
  WatchCall watch(*stub_, Named(""));
  EXPECT_EQ(watch.Next(), Response::SERVING);
  health_.StopServing();
  health_.EndWatches();
  EXPECT_EQ(watch.Next(), Response::NOT_SERVING);
  EXPECT_EQ(watch.Next(), Response::UNKNOWN);
  EXPECT_EQ(watch.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  WatchCall late(*stub_, Named(""));
  EXPECT_EQ(late.Next(), Response::NOT_SERVING);
  EXPECT_EQ(late.Next(), Response::UNKNOWN);
  EXPECT_EQ(late.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(HealthServiceTest, AServerThatEndsCancelsItsWatches) {
  WatchCall watch(*stub_, Named("liveness"));
  EXPECT_EQ(watch.Next(), Response::SERVING);
  server_->Shutdown(absl::ToChronoTime(absl::Now()));
  server_.reset();
  EXPECT_FALSE(watch.Finish().ok());
}

TEST_F(HealthServiceTest, APeerHasAShareOfTheWatches) {
  std::vector<std::unique_ptr<WatchCall>> watches;
  for (size_t i = 0; i < HealthService::kMaxWatchesPerPeer; ++i) {
    watches.push_back(std::make_unique<WatchCall>(*stub_, Named("liveness")));
    ASSERT_EQ(watches.back()->Next(), Response::SERVING);
  }
  const grpc::Status refused = WatchCall(*stub_, Named("liveness")).Finish();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), HasSubstr("256 calls of Health.Watch"));
  WatchCall other(*stub_, Named("liveness"), "192.0.2.2");
  EXPECT_EQ(other.Next(), Response::SERVING);
  // The place of one that has gone is free, as soon as the server knows.
  watches.pop_back();
  const absl::Time patience = absl::Now() + absl::Seconds(30);
  bool served = false;
  while (!served && absl::Now() < patience) {
    WatchCall again(*stub_, Named("liveness"));
    served = again.Next() == Response::SERVING;
  }
  EXPECT_TRUE(served);
}

TEST_F(HealthServiceTest, RequestsAreJudgedOnTheirBytes) {
  Request groups = Named("liveness");
  groups.GetReflection()->MutableUnknownFields(&groups)->AddGroup(100);
  for (const auto& [request, why] :
       {std::pair(groups, "protobuf group"),
        std::pair(Named(std::string(257, 'x')),
                  "service: must be at most 256 bytes, is 257")}) {
    Response response;
    for (const grpc::Status& status :
         {Check(request, &response), WatchCall(*stub_, request).Finish()}) {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
      EXPECT_THAT(status.error_message(), HasSubstr(why));
    }
  }
}

}  // namespace
}  // namespace ounce::server
