#include "server/service/guarded_server.h"

#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <sys/socket.h>

#include <set>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "server/net/file_descriptor.h"
#include "tests/server/net/http2_frames.h"
#include "tests/testing/loopback.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::Frame;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::StatusIs;

// Answers every Tokenize, and notes who asked.
class PeerNoter final : public v1::Inference::CallbackService {
 public:
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest*,
                                     v1::TokenizeResponse*) override {
    {
      MutexLock lock(&mu_);
      peers_.push_back(PeerOf(context->peer(), "", {}));
    }
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  std::vector<std::string> peers() {
    MutexLock lock(&mu_);
    return peers_;
  }

 private:
  Mutex mu_;
  std::vector<std::string> peers_ ABSL_GUARDED_BY(mu_);
};

class GuardedServerTest : public ::testing::Test {
 protected:
  void Start(GuardedServer::Options options = {}) {
    options.setting = "listen";
    if (options.address.empty()) options.address = "127.0.0.1:0";
    auto server =
        GuardedServer::Start(options, {{"ounce.v1.Inference", &service_}});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->address(),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::Inference::NewStub(channel_);
  }

  grpc::Status Tokenize(grpc::ClientContext* context,
                        const std::string& text = "a") {
    v1::TokenizeRequest request;
    request.set_text(text);
    v1::TokenizeResponse response;
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(30));
    return stub_->Tokenize(context, request, &response);
  }
  grpc::Status Tokenize(const std::string& text = "a") {
    grpc::ClientContext context;
    return Tokenize(&context, text);
  }

  // A connection of a client that writes its frames by hand.
  FileDescriptor Connect() {
    FileDescriptor fd(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_TRUE(testing::ConnectTo(fd.get(), server_->address()));
    timeval patience{.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
  }
  static void Write(const FileDescriptor& fd, const std::string& bytes) {
    EXPECT_EQ(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // What comes until the server closes.
  static std::string ReadAll(const FileDescriptor& fd) {
    std::string all;
    char buffer[4096];
    for (ssize_t n; (n = recv(fd.get(), buffer, sizeof(buffer), 0)) > 0;) {
      all.append(buffer, static_cast<size_t>(n));
    }
    return all;
  }

  PeerNoter service_;
  std::unique_ptr<GuardedServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

TEST_F(GuardedServerTest, ServesAndKnowsThePeer) {
  Start();
  EXPECT_TRUE(Tokenize().ok());
  EXPECT_THAT(service_.peers(), ElementsAre("127.0.0.1"));
}

TEST_F(GuardedServerTest, ServesAtEveryFormOfAddress) {
  for (const char* address : {"localhost:0", "0.0.0.0:0", "[::1]:0"}) {
    GuardedServer::Options options;
    options.address = address;
    options.setting = "listen";
    auto server =
        GuardedServer::Start(options, {{"ounce.v1.Inference", &service_}});
    if (!server.ok() && address[0] == '[') continue;  // no IPv6 here
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::Inference::NewStub(grpc::CreateChannel(
        server_->address(), grpc::InsecureChannelCredentials()));
    EXPECT_TRUE(Tokenize().ok()) << address;
  }
}

TEST_F(GuardedServerTest, SaysInOneSentenceThatAPortIsBusy) {
  Start();
  GuardedServer::Options options;
  options.setting = "listen";
  options.address = server_->address();
  ::testing::internal::CaptureStderr();
  EXPECT_THAT(
      GuardedServer::Start(options, {{"ounce.v1.Inference", &service_}}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               "listen: cannot listen on " + server_->address() +
                   ": address already in use"));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), IsEmpty());
}

TEST_F(GuardedServerTest, LetsLargeMessagesThroughUpToTheLimit) {
  GuardedServer::Options options;
  options.max_message_bytes = 4 << 20;
  Start(options);
  EXPECT_TRUE(Tokenize(std::string((4 << 20) - 100, 'x')).ok());
  EXPECT_EQ(Tokenize(std::string((4 << 20) + 1, 'x')).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(Tokenize().ok());
}

TEST_F(GuardedServerTest, RefusesLongHeaders) {
  Start();
  for (const auto& [bytes, code] :
       {std::pair(15'000, grpc::StatusCode::OK),
        std::pair(20'000, grpc::StatusCode::RESOURCE_EXHAUSTED)}) {
    grpc::ClientContext context;
    context.AddMetadata("token", std::string(static_cast<size_t>(bytes), 't'));
    EXPECT_EQ(Tokenize(&context).error_code(), code) << bytes;
  }
  // gRPC closes that connection; others are served.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_ = v1::Inference::NewStub(grpc::CreateCustomChannel(
      server_->address(), grpc::InsecureChannelCredentials(), arguments));
  EXPECT_TRUE(Tokenize().ok());
}

TEST_F(GuardedServerTest, RefusesCompressedRequests) {
  Start();
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  EXPECT_EQ(Tokenize(&context, std::string(100'000, 'x')).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GuardedServerTest, PermitsPingsOfAnIdleChannel) {
  GuardedServer::Options options;
  EXPECT_EQ(options.min_client_ping, absl::Seconds(5));
  options.min_client_ping = absl::Milliseconds(50);
  Start(options);
  const FileDescriptor fd = Connect();
  Write(fd, testing::Start());
  // Four pings with nothing in between: gRPC forgives two that come early.
  for (int i = 0; i < 4; ++i) {
    absl::SleepFor(absl::Milliseconds(i == 0 ? 0 : 150));
    Write(fd, Frame(testing::kPing, 0, 0, "12345678"));
  }
  absl::SleepFor(absl::Milliseconds(200));
  shutdown(fd.get(), SHUT_WR);
  EXPECT_THAT(ReadAll(fd), Not(HasSubstr("too_many_pings")));
}

TEST_F(GuardedServerTest, LetsClientsKeepTheirChannelsAliveByPings) {
  const auto in = [](int ms) {
    return std::chrono::system_clock::now() + std::chrono::milliseconds(ms);
  };
  // A channel that pings every 50 ms.
  const auto connect = [&](absl::Duration min_ping) {
    GuardedServer::Options options;
    options.min_client_ping = min_ping;
    Start(options);
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 50);
    args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    auto channel = grpc::CreateCustomChannel(
        server_->address(), grpc::InsecureChannelCredentials(), args);
    EXPECT_TRUE(channel->WaitForConnected(in(30'000)));
    return channel;
  };
  // It would be sent away after some pings that come too early,
  EXPECT_TRUE(connect(absl::Hours(1))
                  ->WaitForStateChange(GRPC_CHANNEL_READY, in(30'000)));
  // and is not where they may come, without a call and with one.
  const auto channel = connect(absl::Milliseconds(1));
  EXPECT_FALSE(channel->WaitForStateChange(GRPC_CHANNEL_READY, in(500)));
  const auto health = grpc::health::v1::Health::NewStub(channel);
  grpc::ClientContext context;
  const auto watch = health->Watch(&context, {});
  grpc::health::v1::HealthCheckResponse status;
  EXPECT_TRUE(watch->Read(&status));
  EXPECT_FALSE(channel->WaitForStateChange(GRPC_CHANNEL_READY, in(500)));
  context.TryCancel();
}

TEST_F(GuardedServerTest, TellsWhyItClosesAConnection) {
  Start();
  const FileDescriptor fd = Connect();
  Write(fd, testing::Start() + Frame(testing::kContinuation, 0, 1, "h"));
  EXPECT_THAT(ReadAll(fd), HasSubstr("a frame is not as HTTP/2 has it"));
  const FileDescriptor http = Connect();
  Write(http, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(ReadAll(http),
              HasSubstr("speaks gRPC over HTTP/2, and nothing else"));
}

TEST_F(GuardedServerTest, ClosesConnectionsThatStayIdle) {
  GuardedServer::Options options;
  options.idle_connection = absl::Seconds(1);
  Start(options);
  const FileDescriptor fd = Connect();
  Write(fd, testing::Start());
  ReadAll(fd);  // until it is closed
  EXPECT_TRUE(Tokenize().ok());
}

TEST_F(GuardedServerTest, TakesTheIdleConnectionsPlaceWhenAllAreTaken) {
  GuardedServer::Options options;
  options.max_connections = 3;
  Start(options);
  std::vector<FileDescriptor> idle;
  for (int i = 0; i < 3; ++i) {
    idle.push_back(Connect());
    Write(idle.back(), testing::Start());
  }
  absl::SleepFor(absl::Milliseconds(1500));
  EXPECT_TRUE(Tokenize().ok());
  // The oldest made room.
  EXPECT_THAT(ReadAll(idle[0]), HasSubstr("others wanted its place"));
}

TEST_F(GuardedServerTest, RefusesAPeersConnectionBeyondItsShare) {
  GuardedServer::Options options;
  options.max_connections_per_peer = 2;
  Start(options);
  const FileDescriptor first = Connect(), second = Connect(), third = Connect();
  EXPECT_THAT(ReadAll(third), IsEmpty());
  options.trusted_proxies = *PeerSet::Parse("127.0.0.1");
  server_.reset();
  Start(options);
  std::vector<FileDescriptor> many;
  for (int i = 0; i < 10; ++i) many.push_back(Connect());
  EXPECT_TRUE(Tokenize().ok());
}

TEST_F(GuardedServerTest, EndsWhileConnectionsAreOpen) {
  Start();
  const FileDescriptor silent = Connect();
  const FileDescriptor open = Connect();
  Write(open, testing::Start());
  EXPECT_TRUE(Tokenize().ok());
  server_->Shutdown(absl::ZeroDuration());
  server_.reset();
  EXPECT_THAT(ReadAll(silent), Not(HasSubstr("HTTP/1")));
}

// Asks over one stream: for the services, then for each one's file.
template <class Reflection, class Request, class Response>
void CheckReflection(const std::shared_ptr<grpc::Channel>& channel) {
  const auto stub = Reflection::NewStub(channel);
  grpc::ClientContext context;
  const auto stream = stub->ServerReflectionInfo(&context);
  const auto ask = [&](const Request& request) {
    Response response;
    EXPECT_TRUE(stream->Write(request));
    EXPECT_TRUE(stream->Read(&response));
    return response;
  };
  Request list;
  list.set_list_services("*");
  std::vector<std::string> services;
  const Response listed = ask(list);
  for (const auto& service : listed.list_services_response().service()) {
    services.push_back(service.name());
  }
  EXPECT_THAT(services, ElementsAre("grpc.health.v1.Health",
                                    "grpc.reflection.v1.ServerReflection",
                                    "grpc.reflection.v1alpha.ServerReflection",
                                    "ounce.v1.Inference"));
  for (const std::string& service : services) {
    Request request;
    request.set_file_containing_symbol(service);
    std::set<std::string> found;
    const Response answer = ask(request);
    for (const std::string& bytes :
         answer.file_descriptor_response().file_descriptor_proto()) {
      google::protobuf::FileDescriptorProto file;
      ASSERT_TRUE(file.ParseFromString(bytes));
      for (const auto& each : file.service()) {
        found.insert(file.package() + "." + each.name());
      }
    }
    EXPECT_THAT(found, Contains(service));
  }
  Request method;
  method.set_file_containing_symbol("ounce.v1.Inference.Tokenize");
  EXPECT_GT(ask(method).file_descriptor_response().file_descriptor_proto_size(),
            0);
  Request unknown;
  unknown.set_file_by_filename("no.proto");
  EXPECT_EQ(ask(unknown).error_response().error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ask(Request()).error_response().error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  Request longer;
  longer.set_file_by_filename(std::string(100'000, 'x'));
  const Response refused = ask(longer);
  EXPECT_EQ(refused.error_response().error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_LT(refused.ByteSizeLong(), 1000u) << "it is not echoed";
  // Judged on its bytes, as every request: groups take far more memory than
  // they have bytes.
  Request groups = list;
  groups.GetReflection()->MutableUnknownFields(&groups)->AddGroup(100);
  EXPECT_EQ(ask(groups).error_response().error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(GuardedServerTest, ReflectsAllServicesUnderBothNames) {
  Start();
  CheckReflection<grpc::reflection::v1::ServerReflection,
                  grpc::reflection::v1::ServerReflectionRequest,
                  grpc::reflection::v1::ServerReflectionResponse>(channel_);
  CheckReflection<grpc::reflection::v1alpha::ServerReflection,
                  grpc::reflection::v1alpha::ServerReflectionRequest,
                  grpc::reflection::v1alpha::ServerReflectionResponse>(
      channel_);
}

}  // namespace
}  // namespace ounce::server
