// deploy/nginx.conf in front of a real server: what it serves, and the attacks
// of connections_test through it.
#include <cstdlib>
#include <thread>

#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "tests/e2e/raw_connection.h"
#include "tests/e2e/serving.h"
#include "tests/server/net/http2_frames.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using testing::Frame;
using ::testing::HasSubstr;
using testing::Process;
using testing::RawConnection;
using testing::StatusIs;

constexpr char kAttacker[] = "127.0.0.3";

class ProxyTest : public testing::ServingTest {
 protected:
  void SetUp() override {
    if (std::system("nginx -v >/dev/null 2>&1") != 0) {
      GTEST_SKIP() << "nginx is not installed";
    }
    Start({"--model", absl::StrCat("tiny=", testing::kTinyModel),
           "--trusted_proxies", "127.0.0.1"});
    for (int tries = 0; proxy_.empty() && tries < 5; ++tries) StartProxy();
    ASSERT_FALSE(proxy_.empty()) << nginx_->err();
    through_ = client::Client::Create({.server = proxy_});
  }

  // The file as it is, but without TLS, at a free port, and its files here.
  std::string Config(int port) const {
    const std::string root = folder_.Path("");
    std::string temp = "http {\n";
    for (const char* of :
         {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) {
      absl::StrAppend(&temp, of, "_temp_path ", root, of, ";\n");
    }
    const std::string whole =
        testing::ReadFile(OUNCE_SOURCE_ROOT "/deploy/nginx.conf");
    std::string config;
    for (const absl::string_view line : absl::StrSplit(whole, '\n')) {
      const bool tls = line.find("    ssl_") == 0;
      if (!tls) absl::StrAppend(&config, line, "\n");
    }
    return absl::StrReplaceAll(
        config,
        {{"listen [::]:443 ssl http2 ipv6only=off;",
          absl::StrCat("listen 127.0.0.1:", port, " http2;")},
         {"server 127.0.0.1:8500;", absl::StrCat("server ", inference_, ";")},
         {"/run/nginx.pid", absl::StrCat(root, "pid")},
         {"http {\n", temp}});
  }

  void StartProxy() {
    const int port = FreePort();
    const std::string file = folder_.WriteFile("nginx.conf", Config(port));
    nginx_ = std::make_unique<Process>(std::vector<std::string>{
        "nginx", "-p", folder_.Path(""), "-c", file, "-g", "daemon off;"});
    const std::string address = absl::StrCat("127.0.0.1:", port);
    WaitUntil(
        [&] { return !nginx_->Running() || RawConnection(address).open(); });
    if (nginx_->Running()) proxy_ = address;
  }

  void TearDown() override {
    if (nginx_ != nullptr && nginx_->Running()) {
      nginx_->Signal(SIGTERM);
      EXPECT_EQ(nginx_->Wait(absl::Seconds(30)), 0) << nginx_->err();
    }
    ServingTest::TearDown();
  }

  double Memory() {
    std::ifstream in(absl::StrCat("/proc/", server_->pid(), "/status"));
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
    }
    return -1;
  }

  absl::Status Ask() {
    return through_->Generate(Request("def", 2),
                              [](const v1::GenerateResponse&) { return true; });
  }

  std::unique_ptr<Process> nginx_;
  std::string proxy_;  // HOST:PORT
  std::unique_ptr<client::Client> through_;
};

TEST_F(ProxyTest, PassesOnWhatIsServedAndNothingElse) {
  std::string text;
  EXPECT_TRUE(through_
                  ->Generate(Request("def ", 20),
                             [&](const v1::GenerateResponse& response) {
                               text += response.text();
                               return true;
                             })
                  .ok());
  EXPECT_FALSE(text.empty());
  const testing::Finished health =
      testing::RunToEnd({OUNCE_CLI_BINARY, "--server", proxy_, "health"});
  EXPECT_EQ(health.code, 0) << health.err;
  // ModelAdmin is not there.
  const auto admin =
      client::Client::Create({.server = proxy_, .admin = proxy_});
  v1::GetModelRequest request;
  request.set_name("tiny");
  EXPECT_THAT(admin->GetModel(request),
              StatusIs(absl::StatusCode::kUnimplemented));
  // The server's own refusals come through.
  v1::GenerateRequest unknown = Request("def", 2);
  unknown.set_model("unknown");
  EXPECT_THAT(through_->Generate(
                  unknown, [](const v1::GenerateResponse&) { return true; }),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ProxyTest, RefusesTooLargeAMessageAsGrpcDoes) {
  v1::TokenizeRequest request;
  request.set_model("tiny");
  request.set_text(std::string(40 << 20, 'a'));
  EXPECT_THAT(through_->Tokenize(request),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("the message is too large")));
}

TEST_F(ProxyTest, StandsTheAttacks) {
  ASSERT_TRUE(Ask().ok());
  const double before = Memory();
  const std::string call = testing::CallFields("/ounce.v1.Inference/Generate");
  {  // A header that never ends.
    RawConnection connection(proxy_, kAttacker);
    connection.Write(testing::Start() +
                     Frame(testing::kHeaders, 0, 1,
                           call + std::string("\0\x7f\x80\x80", 4)));
    for (int i = 0; i < 20'000; ++i) {
      if (!connection.Write(
              Frame(testing::kContinuation, 0, 1, std::string(1, '\x80')))) {
        break;
      }
    }
  }
  EXPECT_TRUE(Ask().ok());
  {  // Many headers.
    std::string many = testing::Start() + Frame(testing::kHeaders, 0, 1, call);
    std::string fields;
    for (int j = 0; j < 100; ++j) fields += testing::Field("k", "");
    for (int i = 0; i < 10'000; ++i) {
      many += Frame(testing::kContinuation, 0, 1, fields);
    }
    RawConnection(proxy_, kAttacker).Write(many);
  }
  EXPECT_TRUE(Ask().ok());
  {  // Rapid resets.
    RawConnection connection(proxy_, kAttacker);
    std::string calls = testing::Start();
    for (uint32_t id = 1; id < 40'000; id += 2) {
      calls +=
          Frame(testing::kHeaders, testing::kEndHeaders, id, call) +
          Frame(testing::kData, testing::kEndStream, id,
                testing::Message(Request("def", 100).SerializeAsString())) +
          Frame(testing::kReset, 0, id, testing::Number(8, 4));
    }
    connection.Write(calls);
  }
  EXPECT_TRUE(Ask().ok()) << "another caller has a rate of its own";
  {  // Idle connections.
    std::vector<RawConnection> idle;
    for (int i = 0; i < 500; ++i) idle.emplace_back(proxy_, kAttacker);
    EXPECT_TRUE(Ask().ok());
    EXPECT_TRUE(idle[0].WaitClosed(absl::Seconds(40)));
  }
  EXPECT_TRUE(Ask().ok());
  EXPECT_TRUE(Memory() < before + 48 || !testing::kMemoryIsReal) << Memory();
}

TEST_F(ProxyTest, LimitsTheCallsOfOneCaller) {
  int refused = 0;
  for (int i = 0; i < 1000 && refused == 0; ++i) {
    v1::TokenizeRequest request;
    request.set_model("tiny");
    request.set_text("a");
    const absl::Status status = through_->Tokenize(request).status();
    if (status.code() == absl::StatusCode::kResourceExhausted) ++refused;
  }
  EXPECT_GT(refused, 0) << "1,000 calls at once are more than 200";
}

}  // namespace
}  // namespace ounce
