#include "server/metrics/http_endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/http_get.h"
#include "tests/testing/loopback.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::ounce::testing::HttpAsk;
using ::ounce::testing::HttpGet;
using ::ounce::testing::HttpRequest;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class HttpEndpointTest : public ::testing::Test {
 protected:
  // Nothing ends by itself in a test that does not say so.
  static HttpEndpoint::Options Patient() {
    return {.request_time = absl::Hours(1), .reply_time = absl::Hours(1)};
  }

  void Start(const HttpEndpoint::Options& options = Patient()) {
    auto socket = ListenOn("test", "127.0.0.1:0");
    ASSERT_TRUE(socket.ok()) << socket.status();
    address_ = socket->address;
    auto endpoint =
        HttpEndpoint::Start(*std::move(socket), options, Clock::Real(),
                            [](const std::string& path) -> HttpReply {
                              if (path == "/large")
                                return {200, std::string(16 << 20, 'x')};
                              if (path == "/page") return {200, "the page\n"};
                              return {404, "nothing here\n"};
                            });
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    endpoint_ = *std::move(endpoint);
  }

  // A connection from `from`, an address of this machine.
  FileDescriptor Connect(const std::string& from = "127.0.0.1") {
    FileDescriptor fd(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in source{};
    source.sin_family = AF_INET;
    inet_pton(AF_INET, from.c_str(), &source.sin_addr);
    EXPECT_EQ(
        bind(fd.get(), reinterpret_cast<sockaddr*>(&source), sizeof(source)),
        0);
    EXPECT_TRUE(testing::ConnectTo(fd.get(), address_));
    return fd;
  }

  static bool Send(const FileDescriptor& fd, const std::string& text) {
    return send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(text.size());
  }

  // What comes until the server hangs up.
  static std::string Receive(const FileDescriptor& fd) {
    std::string all;
    char buffer[4096];
    ssize_t size;
    while ((size = recv(fd.get(), buffer, sizeof(buffer), 0)) > 0) {
      all.append(buffer, static_cast<size_t>(size));
    }
    return all;
  }

  std::string address_;
  std::unique_ptr<HttpEndpoint> endpoint_;
};

TEST_F(HttpEndpointTest, AnswersByItsOwnNamesWhereThereIsAList) {
  HttpEndpoint::Options options = Patient();
  options.hosts = {"ounce.example", "other"};
  Start(options);
  const auto ask = [&](const std::string& host) {
    return HttpAsk(address_, absl::StrCat("GET /page HTTP/1.1\r\nHost: ", host,
                                          "\r\nConnection: close\r\n\r\n"));
  };
  for (const char* own :
       {"127.0.0.1:8502", "192.0.2.1", "[::1]:8502", "[2001:db8::1]",
        "localhost", "LocalHost:8502", "ounce.localhost", "Ounce.Example:80",
        "ounce.example.", "other:1"}) {
    EXPECT_THAT(ask(own), EndsWith("the page\n")) << own;
  }
  for (const char* others :
       {"rebound.example", "rebound.example:8502", "1.ounce.example",
        "127.0.0.1.rebound.example", "[rebound.example]", "::1", "", ":8502",
        "notlocalhost"}) {
    EXPECT_THAT(ask(others),
                AllOf(StartsWith("HTTP/1.1 421"), HasSubstr("--metrics_hosts"),
                      Not(HasSubstr("the page"))))
        << others;
  }
  // No browser says nothing.
  EXPECT_THAT(HttpAsk(address_, "GET /page HTTP/1.0\r\n\r\n"),
              EndsWith("the page\n"));
}

TEST_F(HttpEndpointTest, AnswersGetAndHead) {
  Start();
  EXPECT_THAT(HttpAsk(address_, HttpRequest("GET", "/page")),
              AllOf(StartsWith("HTTP/1.1 200 "),
                    HasSubstr("Content-Type: text/plain; charset=utf-8\r\n"),
                    EndsWith("\r\n\r\nthe page\n")));
  EXPECT_THAT(HttpAsk(address_, HttpRequest("HEAD", "/page?with=arguments")),
              AllOf(StartsWith("HTTP/1.1 200 "),
                    HasSubstr("Content-Length: 9\r\n"), EndsWith("\r\n\r\n")));
  EXPECT_EQ(HttpGet(address_, "/large").size(), size_t{16} << 20);
}

TEST_F(HttpEndpointTest, TellsBrowsersWhatTheyMayNotDo) {
  Start();
  for (const char* verb : {"GET", "HEAD", "DELETE"}) {
    for (const char* path : {"/page", "/other"}) {
      EXPECT_THAT(
          HttpAsk(address_, HttpRequest(verb, path)),
          AllOf(HasSubstr("\r\nCache-Control: no-store\r\n"),
                HasSubstr("\r\nContent-Security-Policy: default-src 'none'; "
                          "script-src 'self'; style-src 'self'; "),
                HasSubstr("frame-ancestors 'none'"),
                HasSubstr("\r\nCross-Origin-Resource-Policy: same-origin\r\n"),
                HasSubstr("\r\nReferrer-Policy: no-referrer\r\n"),
                HasSubstr("\r\nX-Content-Type-Options: nosniff\r\n"),
                HasSubstr("\r\nX-Frame-Options: DENY\r\n"),
                HasSubstr("\r\nConnection: close\r\n")));
    }
  }
}

TEST_F(HttpEndpointTest, SaysWhatItDoesNotAnswer) {
  Start();
  EXPECT_THAT(
      HttpAsk(address_, HttpRequest("GET", "/other")),
      AllOf(StartsWith("HTTP/1.1 404 "), EndsWith("\r\n\r\nnothing here\n")));
  EXPECT_THAT(
      HttpAsk(address_, HttpRequest("DELETE", "/page")),
      AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("Allow: GET, HEAD\r\n"),
            EndsWith("only GET and HEAD are answered here\n")));
  EXPECT_THAT(HttpAsk(address_, absl::StrCat("GET /", std::string(40'000, 'a'),
                                             " HTTP/1.1\r\n\r\n")),
              StartsWith("HTTP/1.1 4"));
}

TEST_F(HttpEndpointTest, IdleConnectionsKeepNobodyFromAnAnswer) {
  Start();
  std::vector<FileDescriptor> idle;
  for (int i = 0; i < 400; ++i) {
    idle.push_back(Connect());
    if (i % 20 != 1) continue;
    EXPECT_EQ(HttpGet(address_, "/page"), "the page\n");
  }
  EXPECT_EQ(HttpGet(address_, "/page"), "the page\n");
}

TEST_F(HttpEndpointTest, NorDoSlowOnes) {
  Start();
  const std::string request = HttpRequest("GET", "/page");
  std::vector<FileDescriptor> slow;
  for (int i = 0; i < 300; ++i) slow.push_back(Connect());
  for (size_t byte = 0; byte < 20; ++byte) {
    // Those that had to go don't take it any more.
    for (const FileDescriptor& fd : slow) Send(fd, request.substr(byte, 1));
    EXPECT_EQ(HttpGet(address_, "/page"), "the page\n");
  }
  // And neither do those who don't take what they asked for.
  std::vector<FileDescriptor> deaf;
  for (int i = 0; i < 20; ++i) {
    deaf.push_back(Connect());
    Send(deaf.back(), HttpRequest("GET", "/large"));
  }
  EXPECT_EQ(HttpGet(address_, "/page"), "the page\n");
}

TEST_F(HttpEndpointTest, HangsUpOnWhoAsksNothingInTime) {
  Start({.request_time = absl::Milliseconds(50)});
  EXPECT_EQ(Receive(Connect()), "");
}

TEST_F(HttpEndpointTest, HangsUpOnWhoAsksTooSlowly) {
  Start({.request_time = absl::Milliseconds(100)});
  const FileDescriptor slow = Connect();
  while (Send(slow, "G")) absl::SleepFor(absl::Milliseconds(5));
}

TEST_F(HttpEndpointTest, HangsUpOnWhoDoesNotTakeTheAnswerInTime) {
  Start({.reply_time = absl::Milliseconds(100)});
  const FileDescriptor deaf = Connect();
  ASSERT_TRUE(Send(deaf, HttpRequest("GET", "/large")));
  absl::SleepFor(absl::Milliseconds(1500));  // it looks every 250
  EXPECT_LT(Receive(deaf).size(), size_t{16} << 20);
}

TEST_F(HttpEndpointTest, OnlyThePeerWithManyConnectionsLosesSome) {
  Start();
  const FileDescriptor patient = Connect("127.0.0.1");
  std::vector<FileDescriptor> hogs;
  for (int i = 0; i < 300; ++i) hogs.push_back(Connect("127.0.0.2"));
  for (int i = 0; i < 300; ++i) {
    hogs.push_back(Connect(absl::StrCat("127.0.1.", i % 5 + 1)));
  }
  ASSERT_TRUE(Send(patient, HttpRequest("GET", "/page")));
  EXPECT_THAT(Receive(patient), EndsWith("the page\n"));
}

TEST_F(HttpEndpointTest, AcceptsAgainAfterTheDescriptorsRanOut) {
  Start();
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  FileDescriptor connection(socket(AF_INET, SOCK_STREAM, 0));
  // The next descriptor would be the first one over the limit.
  const FileDescriptor next(dup(0));
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(next.get()) + 1;
  setrlimit(RLIMIT_NOFILE, &tight);
  ASSERT_TRUE(testing::ConnectTo(connection.get(), address_));
  ASSERT_TRUE(Send(connection, HttpRequest("GET", "/page")));
  absl::SleepFor(absl::Milliseconds(300));
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_THAT(Receive(connection), EndsWith("the page\n"));
  EXPECT_EQ(HttpGet(address_, "/page"), "the page\n");
}

TEST_F(HttpEndpointTest, EndsAtOnceWithConnectionsThatAreOpen) {
  Start();
  const FileDescriptor idle = Connect();
  const FileDescriptor half = Connect();
  ASSERT_TRUE(Send(half, "GET /pa"));
  endpoint_ = nullptr;
  EXPECT_EQ(Receive(idle), "");
}

}  // namespace
}  // namespace ounce::server
