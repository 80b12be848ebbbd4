#include "client/client.h"

#include <arpa/inet.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/error_details.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "tests/testing/certificates.h"
#include "tests/testing/relay.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::client {
namespace {

using ::testing::AllOf;
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
    if (request->image() == "fault") return Fault();
    response->set_method(request->model());
    response->set_image_width(static_cast<int32_t>(request->image().size()));
    response->add_detections()->set_score(request->threshold());
    response->set_model_version(request->max_detections());
    return grpc::Status::OK;
  }

  grpc::Status ListModels(grpc::ServerContext*,
                          const v1::ListServedModelsRequest*,
                          v1::ListServedModelsResponse* response) override {
    response->add_models()->set_name("code");
    return grpc::Status::OK;
  }

  // With all details that a client may meet.
  static grpc::Status Fault() {
    google::rpc::Status details;
    details.set_code(grpc::StatusCode::INTERNAL);
    details.set_message("it broke");
    google::rpc::BadRequest bad_request;
    auto* violation = bad_request.add_field_violations();
    violation->set_field("image");
    violation->set_description("must be smaller");
    details.add_details()->PackFrom(bad_request);
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_nanos(200'000'000);
    details.add_details()->PackFrom(retry);
    google::rpc::RequestInfo request;
    request.set_request_id("0123abcd");
    details.add_details()->PackFrom(request);
    grpc::Status status;
    EXPECT_TRUE(grpc::SetErrorDetails(details, &status).ok());
    return status;
  }

  // Tokens without an end.
  grpc::Status Generate(
      grpc::ServerContext* context, const v1::GenerateRequest*,
      grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    v1::GenerateResponse response;
    response.add_token_ids(1);
    while (!context->IsCancelled() && writer->Write(response)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return grpc::Status::CANCELLED;
  }
};

// Refuses for now, as many times as it is told; else answers once.
class FullService final : public v1::Inference::Service {
 public:
  grpc::Status DetectObjects(grpc::ServerContext*,
                             const v1::DetectObjectsRequest*,
                             v1::DetectObjectsResponse*) override {
    ++calls;
    return refusals-- > 0 ? Full() : grpc::Status::OK;
  }
  grpc::Status Generate(
      grpc::ServerContext*, const v1::GenerateRequest*,
      grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    ++calls;
    writer->Write({});
    return refusals-- > 0 ? Full() : grpc::Status::OK;
  }

  grpc::Status Full() const {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(
        absl::ToInt64Seconds(absl::Floor(delay, absl::Seconds(1))));
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(
        absl::ToInt64Nanoseconds(delay % absl::Seconds(1))));
    google::rpc::Status details;
    details.set_code(static_cast<int>(grpc::StatusCode::RESOURCE_EXHAUSTED));
    details.set_message(words);
    details.add_details()->PackFrom(retry);
    grpc::Status status;
    grpc::SetErrorDetails(details, &status);
    return status;
  }

  std::string words = "full";
  absl::Duration delay = absl::Milliseconds(5);
  std::atomic<int> refusals = 0;
  std::atomic<int> calls = 0;
};

// Answers every connection as a web server does that is not spoken to in
// HTTP/1.
class HttpServer {
 public:
  HttpServer() : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    listen(listener_, 5);
    socklen_t size = sizeof(address);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] {
      for (int one; (one = accept(listener_, nullptr, nullptr)) >= 0;) {
        const std::string answer = "HTTP/1.1 400 Bad Request\r\n\r\n";
        EXPECT_EQ(send(one, answer.data(), answer.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(answer.size()));
        shutdown(one, SHUT_WR);
        char rest[1024];
        while (read(one, rest, sizeof(rest)) > 0) {
        }
        close(one);
      }
    });
  }
  ~HttpServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  const std::string& address() const { return address_; }

 private:
  const int listener_;
  std::string address_;
  std::thread thread_;
};

class EnvironmentVariables {
 public:
  explicit EnvironmentVariables(std::map<std::string, std::string> variables)
      : variables_(std::move(variables)) {
    for (const auto& [name, value] : variables_) {
      setenv(name.c_str(), value.c_str(), 1);
    }
  }
  ~EnvironmentVariables() {
    for (const auto& [name, value] : variables_) unsetenv(name.c_str());
  }

 private:
  const std::map<std::string, std::string> variables_;
};

// On a free port of the loopback, which `address` becomes.
std::unique_ptr<grpc::Server> Serve(grpc::Service* service,
                                    std::string* address) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.SetMaxReceiveMessageSize(1 << 20);
  builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  *address = "127.0.0.1:" + std::to_string(port);
  return server;
}

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() {
    server_ = Serve(&service_, &address_);
    client_ = Client::Create({.server = address_, .admin = address_});
  }

  EchoService service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::unique_ptr<Client> client_;
};

class RetryTest : public ::testing::Test {
 protected:
  RetryTest() {
    server_ = Serve(&service_, &options_.server);
    options_.timeout = absl::Minutes(1);
  }

  FullService service_;
  std::unique_ptr<grpc::Server> server_;
  Client::Options options_;
};

TEST_F(RetryTest, ARefusedCallIsMadeAgainWhenTheServerSaysSo) {
  service_.refusals = 2;
  options_.retries = 2;
  EXPECT_OK(Client::Create(options_)->DetectObjects({}));
  EXPECT_EQ(service_.calls, 3);
}

TEST_F(RetryTest, NoMoreOftenThanTheOptionsSay) {
  service_.refusals = 3;
  options_.retries = 1;
  EXPECT_THAT(
      Client::Create(options_)->DetectObjects({}),
      StatusIs(absl::StatusCode::kResourceExhausted, "full; try again in 5ms"));
  EXPECT_EQ(service_.calls, 2);
}

TEST_F(RetryTest, NotWhenTheDeadlineIsBeforeThat) {
  service_.refusals = 1;
  service_.delay = absl::Hours(1);
  options_.retries = 1;
  EXPECT_THAT(
      Client::Create(options_)->DetectObjects({}),
      StatusIs(absl::StatusCode::kResourceExhausted, "full; try again in 1h"));
}

TEST_F(RetryTest, IsSpokenOfOnce) {
  const auto says = [&](const char* words) {
    service_.refusals = 1;
    service_.words = words;
    return std::string(
        Client::Create(options_)->DetectObjects({}).status().message());
  };
  EXPECT_EQ(says("it loads; try again later"), "it loads; try again in 5ms");
  EXPECT_EQ(says("try again later, or give it more time"),
            "try again in 5ms, or give it more time");
  EXPECT_EQ(says("it loads; try again when that is done"),
            "it loads; try again when that is done (in about 5ms)");
}

TEST_F(RetryTest, NotWhenSomethingHasCome) {
  service_.refusals = 1;
  options_.retries = 1;
  EXPECT_THAT(Client::Create(options_)->Generate(
                  {}, [](const v1::GenerateResponse&) { return true; }),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(service_.calls, 1);
}

TEST_F(RetryTest, CancelEndsTheWaiting) {
  service_.refusals = 1;
  service_.delay = absl::Hours(1);
  options_.retries = 1;
  options_.timeout = absl::InfiniteDuration();
  const auto client = Client::Create(options_);
  std::thread other([&] {
    while (service_.calls == 0) std::this_thread::yield();
    EXPECT_TRUE(client->Cancel());
  });
  EXPECT_THAT(client->DetectObjects({}),
              StatusIs(absl::StatusCode::kCancelled, "cancelled"));
  other.join();
}

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

TEST_F(ClientTest, ListsModelsOfThePublicListener) {
  ASSERT_OK_AND_ASSIGN(
      const v1::ListServedModelsResponse response,
      Client::Create({.server = address_, .admin = "127.0.0.1:1"})
          ->ListServedModels());
  EXPECT_EQ(response.models(0).name(), "code");
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

TEST_F(ClientTest, SaysInWordsWhatTheDetailsOfAnErrorSay) {
  v1::DetectObjectsRequest request;
  request.set_image("fault");
  EXPECT_THAT(client_->DetectObjects(request),
              StatusIs(absl::StatusCode::kInternal,
                       "it broke; field image: must be smaller; try again in "
                       "200ms; request 0123abcd in the server's log"));
}

TEST_F(ClientTest, HasTheDetailsOfAnErrorAsPayloads) {
  v1::DetectObjectsRequest request;
  request.set_image("fault");
  const absl::optional<absl::Cord> payload =
      client_->DetectObjects(request).status().GetPayload(
          "type.googleapis.com/google.rpc.BadRequest");
  ASSERT_TRUE(payload.has_value());
  google::rpc::BadRequest details;
  ASSERT_TRUE(details.ParseFromString(std::string(*payload)));
  EXPECT_EQ(details.field_violations(0).field(), "image");
}

TEST_F(ClientTest, SaysWhatToDoWhenNothingAnswers) {
  server_->Shutdown();
  EXPECT_THAT(client_->DetectObjects({}),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("nothing answers at " + address_)));
}

TEST_F(ClientTest, SaysWhatIsWrongWithAnAddress) {
  const auto answer = [](const std::string& server) {
    return Client::Create({.server = server})->DetectObjects({}).status();
  };
  EXPECT_THAT(answer(""), StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr("must be HOST:PORT, is empty")));
  EXPECT_THAT(answer("nosuchhost.invalid:80"),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("no host 'nosuchhost.invalid'")));
  const HttpServer http;
  EXPECT_THAT(answer(http.address()),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("does not speak gRPC"),
                             HasSubstr("the port for metrics"))));
  EXPECT_THAT(answer("http://" + address_ + "/"),
              StatusIs(absl::StatusCode::kInvalidArgument, "image: empty"));
}

TEST_F(ClientTest, SaysWhatIsWrongWithAFileOfTls) {
  const testing::TempFolder folder;
  const testing::Certificates make(folder.path().string());
  const testing::Certificate good = make.MakeAuthority("good");
  const testing::Certificate other = make.MakeAuthority("other");
  const std::string empty = folder.WriteFile("empty", "");
  const auto answer = [&](Client::Options options) {
    options.server = address_;
    options.tls = true;
    return Client::Create(options)->DetectObjects({}).status();
  };
  const auto wrong = [](const std::string& message) {
    return StatusIs(absl::StatusCode::kInvalidArgument, message);
  };
  for (const std::string& ca : {good.key, empty}) {
    EXPECT_THAT(answer({.ca_file = ca}),
                wrong("--ca: '" + ca + "' holds no certificate in PEM format"));
  }
  for (const std::string& cert : {good.key, empty}) {
    EXPECT_THAT(
        answer({.cert_file = cert, .key_file = good.key}),
        wrong("--cert: '" + cert + "' holds no certificate in PEM format"));
  }
  for (const std::string& key : {good.cert, empty}) {
    EXPECT_THAT(answer({.cert_file = good.cert, .key_file = key}),
                wrong("--key: '" + key +
                      "' holds no private key in PEM format, one without a "
                      "passphrase"));
  }
  EXPECT_THAT(answer({.cert_file = other.cert, .key_file = good.key}),
              wrong("--key: '" + good.key + "' does not belong to --cert"));
  EXPECT_THAT(answer({.cert_file = good.cert}),
              wrong("--cert and --key go together"));
}

TEST_F(ClientTest, SaysThatConnectionsAreClosedAtOnce) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener, any, size), 0);
  ASSERT_EQ(listen(listener, 8), 0);
  ASSERT_EQ(getsockname(listener, any, &size), 0);
  std::thread closer([&] {
    while (true) {
      const int connection = accept(listener, nullptr, nullptr);
      if (connection < 0) return;
      close(connection);
    }
  });
  const auto client = Client::Create(
      {.server = absl::StrCat("127.0.0.1:", ntohs(address.sin_port)),
       .admin = "127.0.0.1:1"});
  EXPECT_THAT(client->IsServing("").status(),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("closes connections at once")));
  shutdown(listener, SHUT_RDWR);
  closer.join();
  close(listener);
}

TEST_F(ClientTest, UsesNoProxyForThisMachine) {
  const EnvironmentVariables proxy({{"http_proxy", "http://127.0.0.1:1"},
                                    {"https_proxy", "http://127.0.0.1:1"},
                                    {"grpc_proxy", "http://127.0.0.1:1"}});
  EXPECT_THAT(Client::Create({.server = address_})->DetectObjects({}),
              StatusIs(absl::StatusCode::kInvalidArgument, "image: empty"));
}

TEST_F(ClientTest, NamesAProxyThatFails) {
  const auto answer = [] {
    return Client::Create({.server = "192.0.2.1:8500"})
        ->DetectObjects({})
        .status();
  };
  {
    const EnvironmentVariables proxy(std::map<std::string, std::string>{
        {"http_proxy", "http://user:secret@127.0.0.1:1"}});
    EXPECT_THAT(
        answer(),
        StatusIs(
            absl::StatusCode::kUnavailable,
            "cannot reach 192.0.2.1:8500 through the proxy 127.0.0.1:1 "
            "(http_proxy): Connection refused; to go there directly, unset "
            "http_proxy or name 192.0.2.1 in no_proxy"));
  }
  const HttpServer http;
  const EnvironmentVariables proxy(
      std::map<std::string, std::string>{{"grpc_proxy", http.address()}});
  EXPECT_THAT(
      answer(),
      StatusIs(absl::StatusCode::kUnavailable,
               AllOf(HasSubstr("the proxy " + http.address() + " (grpc_proxy)"),
                     HasSubstr("400"))));
}

TEST_F(ClientTest, CancelsWhatIsUnderWayAndAllThatFollows) {
  const auto other = client_->WithTimeout(absl::InfiniteDuration());
  EXPECT_FALSE(Client::Create({.server = address_})->Cancel());
  int num_tokens = 0;
  bool any = false;
  const absl::Status status =
      client_->Generate({}, [&](const v1::GenerateResponse&) {
        if (++num_tokens == 3) any = client_->Cancel();
        return true;
      });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled, "cancelled"));
  EXPECT_TRUE(any);
  EXPECT_THAT(client_->DetectObjects({}),
              StatusIs(absl::StatusCode::kCancelled, "cancelled"));
  EXPECT_THAT(other->DetectObjects({}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ClientTest, WhatIsHeldOpenCountsAsUnderWay) {
  auto open = client_->HoldOpen();
  const auto another = client_->HoldOpen();
  EXPECT_TRUE(client_->Cancel());
  open.reset();
  EXPECT_TRUE(client_->Cancel());
  EXPECT_FALSE(Client::Create({.server = address_})->Cancel());
  EXPECT_THAT(client_->ListServedModels().status(),
              StatusIs(absl::StatusCode::kCancelled, "cancelled"));
}

TEST_F(ClientTest, SaysThatTheServerWentAway) {
  testing::Relay relay(address_, 1 << 30);
  const auto client = Client::Create({.server = relay.address()});
  int num_tokens = 0;
  EXPECT_THAT(client->Generate({},
                               [&](const v1::GenerateResponse&) {
                                 if (++num_tokens == 3) relay.HangUp();
                                 return true;
                               }),
              StatusIs(absl::StatusCode::kUnavailable, "the server went away"));
  EXPECT_GE(num_tokens, 3);
}

TEST_F(ClientTest, GivesWhatIsUnderWayUpAtTheDeadline) {
  const auto hasty = client_->WithTimeout(absl::Milliseconds(50));
  EXPECT_THAT(
      hasty->Generate({}, [](const auto&) { return true; }),
      StatusIs(absl::StatusCode::kDeadlineExceeded, "the deadline has passed"));
  // Further than the clock's nanoseconds reach.
  EXPECT_THAT(client_->WithTimeout(absl::Seconds(1e12))->DetectObjects({}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace ounce::client
