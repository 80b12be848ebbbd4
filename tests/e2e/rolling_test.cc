// Stops as an orchestrator makes them: readiness goes, traffic comes for a
// while yet, and no request is lost.
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <array>
#include <atomic>
#include <functional>
#include <limits>
#include <map>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "base/mutex.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "tests/e2e/raw_connection.h"
#include "tests/e2e/serving.h"
#include "tests/server/net/http2_frames.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::HasSubstr;
using testing::Process;

class RollingTest : public testing::ServingTest {
 protected:
  static std::vector<std::string> Flags(const std::string& delay) {
    return {"--model", absl::StrCat("tiny=", testing::kTinyModel),
            "--drain_delay_seconds", delay};
  }

  std::string Readiness() {
    return testing::HttpAsk(metrics_, testing::HttpRequest("GET", "/readyz"));
  }
  bool WaitUntilNotReady() {
    return WaitUntil([&] {
      return absl::StrContains(Readiness(), "not ready: shutting down");
    });
  }
};

TEST_F(RollingTest, ServesNewCallersForAWhileAfterTheSignal) {
  Start(Flags("2"));
  v1::GenerateRequest long_one = Request("def", 480);
  long_one.set_logprobs(20);  // more bytes than are sent ahead
  const auto expected = Generate(long_one);
  ASSERT_THAT(expected.status(), testing::IsOk());
  testing::RawConnection idle(inference_);
  ASSERT_TRUE(idle.Write(testing::Start()));
  const absl::Time end = absl::Now() + absl::Seconds(2);  // at the earliest
  server_->Signal(SIGTERM);
  ASSERT_TRUE(WaitUntilNotReady());
  // Begins in the delay, and is read after it.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16 << 10);
  const auto stub = v1::Inference::NewStub(grpc::CreateCustomChannel(
      inference_, grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  const auto stream = stub->Generate(&context, long_one);
  v1::GenerateResponse message;
  ASSERT_TRUE(stream->Read(&message));
  std::string text = message.text();
  int served = 0;
  while (true) {
    const auto newcomer = client::Client::Create({.server = inference_});
    const absl::StatusOr<bool> ready = newcomer->IsServing("");
    const absl::Status status =
        newcomer->Generate(Request("def", 4), [](const auto&) { return true; });
    if (absl::Now() >= end) break;
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(ready.ok() && !*ready) << ready.status();
    ++served;
  }
  EXPECT_GT(served, 0);
  // Then nobody is let in, and what has begun goes on.
  EXPECT_TRUE(WaitUntil([&] {
    const auto late = client::Client::Create({.server = inference_});
    return !late->ListServedModels().ok();
  }));
  while (stream->Read(&message)) text += message.text();
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(text, expected->first);
  // Clients are asked to go elsewhere, and the port is closed.
  EXPECT_TRUE(idle.WaitClosed(absl::Seconds(20)));
  EXPECT_THAT(idle.last_words(),
              HasSubstr(testing::Frame(
                  testing::kGoAway, 0, 0,
                  testing::Number(0x7fffffff, 4) + testing::Number(0, 4))));
  EXPECT_EQ(server_->Wait(absl::Minutes(1)), 0) << server_->err();
}

TEST_F(RollingTest, ASecondSignalEndsTheDelayToo) {
  Start(Flags("3600"));
  server_->Signal(SIGTERM);
  ASSERT_TRUE(WaitUntilNotReady());
  absl::SleepFor(absl::Milliseconds(150));  // sooner it would be the same one
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(absl::Seconds(10)), 128 + SIGTERM);
}

TEST_F(RollingTest, IsReadyOnlyWhileTheModelsOfItsStartServe) {
  Start(Flags("0"));
  EXPECT_TRUE(*client_->IsServing(""));
  v1::UnloadModelRequest unload;
  unload.set_name("tiny");
  ASSERT_TRUE(client_->UnloadModel(unload).ok());
  EXPECT_FALSE(*client_->IsServing(""));
  EXPECT_FALSE(*client_->IsServing("ounce.v1.Inference"));
  EXPECT_TRUE(*client_->IsServing("liveness"));
  EXPECT_THAT(Readiness(), HasSubstr("not ready: model tiny does not serve"));
  v1::LoadModelRequest load;
  load.set_name("tiny");
  load.set_path(testing::kTinyModel);
  ASSERT_TRUE(client_->LoadModel(load).ok());
  EXPECT_TRUE(*client_->IsServing(""));
  EXPECT_EQ(testing::HttpGet(metrics_, "/readyz"), "ready\n");
}

// How long a server that refuses wants to be left alone.
absl::Duration RetryDelay(const grpc::Status& status) {
  google::rpc::Status details;
  google::rpc::RetryInfo retry;
  if (!details.ParseFromString(status.error_details())) {
    return absl::ZeroDuration();
  }
  for (const google::protobuf::Any& detail : details.details()) {
    if (detail.UnpackTo(&retry)) {
      return absl::Seconds(retry.retry_delay().seconds()) +
             absl::Nanoseconds(retry.retry_delay().nanos());
    }
  }
  return absl::ZeroDuration();
}

// Three servers, each at an address that it comes back to.
class ThreeServersTest : public RollingTest {
 protected:
  static constexpr size_t kServers = 3;

  struct Replica {
    std::string address, metrics;  // HOST:PORT
    std::unique_ptr<Process> process;
  };

  void SetUp() override {
    for (size_t i = 0; i < kServers; ++i) {
      // Not 127.0.0.1: while it is away no other program is to take its port.
      replicas_[i].address = absl::StrCat("127.0.0.", 21 + i, ":", FreePort());
      Run(replicas_[i]);
    }
  }

  void Run(Replica& replica) {
    const std::string ports = folder_.Path(replica.address);
    std::filesystem::remove(ports);  // a killed one leaves it
    std::vector<std::string> args = {
        OUNCE_SERVER_BINARY, "--listen",     replica.address,
        "--admin_listen",    "127.0.0.1:0",  "--metrics_listen",
        "127.0.0.1:0",       "--ports_file", ports};
    for (const std::string& flag : Flags("0.5")) args.push_back(flag);
    replica.process = std::make_unique<Process>(args);
    ASSERT_TRUE(WaitUntil([&] {
      return !testing::ReadFile(ports).empty() || !replica.process->Running();
    }));
    ASSERT_TRUE(replica.process->Running()) << replica.process->err();
    replica.metrics =
        nlohmann::json::parse(testing::ReadFile(ports))["metrics"];
  }

  // How many requests it has ended well.
  double Served(const Replica& replica) {
    metrics_ = replica.metrics;
    return Metric("ounce_requests_total", {"outcome=\"length\""});
  }

  // A stub whose calls go round the servers; its channel comes back soon to one
  // that was away, and retries no call that a server has seen. With
  // `watches_health` it leaves out those that say they are not ready.
  std::unique_ptr<v1::Inference::Stub> RoundRobin(bool watches_health) {
    std::string target = "ipv4:";
    for (const Replica& replica : replicas_) {
      absl::StrAppend(&target, target.back() == ':' ? "" : ",",
                      replica.address);
    }
    grpc::ChannelArguments arguments;
    arguments.SetServiceConfigJSON(absl::StrCat(
        R"({"loadBalancingConfig": [{"round_robin": {}}])",
        watches_health ? R"(, "healthCheckConfig": {"serviceName": ""})" : "",
        "}"));
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    return v1::Inference::NewStub(grpc::CreateCustomChannel(
        target, grpc::InsecureChannelCredentials(), arguments));
  }

  // Runs `restart` while callers ask all the time, up to so many times for an
  // answer that a server could not give, as it tells them to; none may go
  // without, or get another.
  void ExpectNoLoss(v1::Inference::Stub& stub,
                    const std::function<void()>& restart, int tries = 1) {
    // The text of a greedy answer, and how it ended.
    const auto ask_once = [&](uint32_t tokens, bool waits_for_a_server) {
      grpc::ClientContext context;
      context.set_wait_for_ready(waits_for_a_server);
      std::string text;
      v1::GenerateResponse message;
      const auto stream = stub.Generate(&context, Request("def f", tokens));
      while (stream->Read(&message)) text += message.text();
      return std::pair(stream->Finish(), text);
    };
    std::atomic<int> again{0};
    const auto ask = [&](uint32_t tokens) {
      for (int i = 1;; ++i) {
        auto answer = ask_once(tokens, /*waits_for_a_server=*/i > 1);
        if (answer.first.error_code() != grpc::StatusCode::UNAVAILABLE ||
            i >= tries) {
          return answer;
        }
        ++again;
        absl::SleepFor(RetryDelay(answer.first));
      }
    };
    // Short answers, and some that a stop begins in the midst of.
    std::map<uint32_t, std::string> expected;
    for (const uint32_t tokens : {1u, 8u, 200u}) {
      const auto [status, text] = ask(tokens);
      ASSERT_TRUE(status.ok()) << status.error_message();
      expected[tokens] = text;
    }
    std::atomic<bool> over{false};
    std::atomic<int> answered{0};
    Mutex mu;
    std::map<std::string, int> lost;
    std::vector<std::thread> callers;
    for (const uint32_t tokens : {1u, 1u, 8u, 200u}) {
      callers.emplace_back([&, tokens] {
        while (!over) {
          const auto [status, text] = ask(tokens);
          ++answered;
          if (status.ok() && text == expected[tokens]) continue;
          MutexLock lock(&mu);
          ++lost[status.ok() ? "another text: " + text
                             : absl::StrCat(status.error_code(), " ",
                                            status.error_message())];
        }
      });
    }
    restart();
    over = true;
    for (std::thread& caller : callers) caller.join();
    EXPECT_THAT(lost, ::testing::IsEmpty()) << "of " << answered;
    absl::PrintF("%d answers, asked again for %d\n", answered.load(),
                 again.load());
  }

  // Once it has served some: so the channel goes to it.
  void Stop(Replica& replica) {
    EXPECT_TRUE(WaitUntil([&] { return Served(replica) >= 3; }));
    replica.process->Signal(SIGTERM);
    EXPECT_EQ(replica.process->Wait(absl::Minutes(1)), 0)
        << replica.process->err();
  }

  std::array<Replica, kServers> replicas_;
};

TEST_F(ThreeServersTest, ARollingRestartLosesNoRequest) {
  const auto stub = RoundRobin(/*watches_health=*/true);
  ExpectNoLoss(*stub, [&] {
    for (Replica& replica : replicas_) {
      Stop(replica);
      Run(replica);
    }
    EXPECT_TRUE(WaitUntil([&] { return Served(replicas_.back()) >= 3; }));
  });
}

TEST_F(ThreeServersTest, KilledServersCostNobodyAnAnswerWhoAsksAgain) {
  const auto stub = RoundRobin(/*watches_health=*/true);
  const auto restart = [&] {
    for (Replica& replica : replicas_) {
      EXPECT_TRUE(WaitUntil([&] { return Served(replica) >= 3; }));
      replica.process->Signal(SIGKILL);
      EXPECT_EQ(replica.process->Wait(absl::Minutes(1)), 128 + SIGKILL);
      Run(replica);
    }
    EXPECT_TRUE(WaitUntil([&] { return Served(replicas_.back()) >= 3; }));
  };
  ExpectNoLoss(*stub, restart, /*tries=*/5);
}

TEST_F(ThreeServersTest, ATimeWithoutAnyServerCostsNobodyAnAnswerWhoAsksAgain) {
  const auto stub = RoundRobin(/*watches_health=*/false);
  const auto restart = [&] {
    for (Replica& replica : replicas_) {
      EXPECT_TRUE(WaitUntil([&] { return Served(replica) >= 3; }));
    }
    for (Replica& replica : replicas_) replica.process->Signal(SIGKILL);
    for (Replica& replica : replicas_) {
      EXPECT_EQ(replica.process->Wait(absl::Minutes(1)), 128 + SIGKILL);
    }
    for (Replica& replica : replicas_) Run(replica);
    for (Replica& replica : replicas_) {
      EXPECT_TRUE(WaitUntil([&] { return Served(replica) >= 3; }));
    }
  };
  ExpectNoLoss(*stub, restart,
               /*tries=*/std::numeric_limits<int>::max());
}

// Who watches no health is asked to go.
TEST_F(ThreeServersTest, TakingServersAwayLosesNoRequest) {
  const auto stub = RoundRobin(/*watches_health=*/false);
  ExpectNoLoss(*stub, [&] {
    Stop(replicas_[0]);
    Stop(replicas_[1]);
  });
}

}  // namespace
}  // namespace ounce
