// A real Prometheus scrapes a real server.
#include <sys/socket.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "server/net/file_descriptor.h"
#include "tests/e2e/serving.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

class PrometheusTest : public testing::ServingTest {
 protected:
  std::vector<server::FileDescriptor> IdleConnections(int count) {
    std::vector<server::FileDescriptor> connections;
    for (int i = 0; i < count; ++i) {
      connections.emplace_back(socket(AF_INET, SOCK_STREAM, 0));
      EXPECT_TRUE(testing::ConnectTo(connections.back().get(), metrics_));
      if (i % 2 == 1) {
        EXPECT_EQ(send(connections.back().get(), "G", 1, MSG_NOSIGNAL), 1);
      }
    }
    return connections;
  }
};

// With a Prometheus that scrapes the server, where there is one.
class ScrapedTest : public PrometheusTest {
 protected:
  void SetUp() override {
    if (std::system("prometheus --version >/dev/null 2>&1") != 0) {
      GTEST_SKIP() << "prometheus is not installed";
    }
    Start();
  }

  // Its data are in the test's folder, so that it knows them when it is
  // started again.
  void StartPrometheus() {
    const std::string config = folder_.WriteFile(
        "prometheus.yml", absl::StrCat("scrape_configs:\n"
                                       "- job_name: ounce\n"
                                       "  scrape_interval: 1s\n"
                                       "  static_configs: [{targets: ['",
                                       metrics_, "']}]\n"));
    prometheus_ = std::make_unique<testing::Process>(std::vector<std::string>{
        "prometheus", absl::StrCat("--config.file=", config),
        absl::StrCat("--storage.tsdb.path=", folder_.Path("data")),
        absl::StrCat("--web.listen-address=", address_)});
  }

  // The first value of an expression; empty where there is none.
  std::string Query(const std::string& expression) {
    const std::string body = testing::HttpGet(
        address_, absl::StrCat("/api/v1/query?query=", expression));
    const auto answer = nlohmann::json::parse(body, nullptr, false);
    if (answer.is_discarded() || !answer.contains("data")) return "";
    const auto& result = answer["data"]["result"];
    return result.empty() ? "" : result[0]["value"][1].get<std::string>();
  }
  bool WaitFor(const std::string& expression, const std::string& value) {
    return WaitUntil([&] { return Query(expression) == value; });
  }

  const std::string address_ = absl::StrCat("127.0.0.1:", FreePort());
  std::unique_ptr<testing::Process> prometheus_;
};

TEST_F(ScrapedTest, TellsWhatTheServerExports) {
  ASSERT_TRUE(Generate(Request("def ", 8)).ok());
  // Connections that say nothing, or nearly, don't keep it out.
  const std::vector<server::FileDescriptor> idle = IdleConnections(100);
  StartPrometheus();
  EXPECT_TRUE(WaitFor("ounce_build_info", "1")) << prometheus_->err();
  EXPECT_EQ(Query("up"), "1");
  EXPECT_EQ(Query("ounce_generated_tokens_total"), "8");
  EXPECT_EQ(Query("sum(ounce_requests_total)"), "1");
  EXPECT_EQ(Query("sum(ounce_model_weight_bytes)"),
            absl::StrCat(Model("tiny").resident_bytes()));
  EXPECT_EQ(Query("ounce_time_to_first_token_seconds_count"), "1");
}

TEST_F(ScrapedTest, MissesNothingOfATimeWhenPrometheusWasGone) {
  const std::string tokens = "ounce_generated_tokens_total";
  ASSERT_TRUE(Generate(Request("def ", 8)).ok());
  v1::LoadModelRequest load;
  load.set_name("second");
  load.set_path(testing::kTinyModel);
  ASSERT_TRUE(client_->LoadModel(load).ok());
  StartPrometheus();
  ASSERT_TRUE(WaitFor(tokens + "%7Bmodel='tiny'%7D", "8"))
      << prometheus_->err();
  prometheus_->Signal(SIGKILL);
  ASSERT_EQ(prometheus_->Wait(absl::Minutes(1)), 128 + SIGKILL);
  // Counters go on, and those of a model that goes wait for the next scrape.
  ASSERT_TRUE(Generate(Request("def ", 16)).ok());
  v1::GenerateRequest request = Request("def ", 4);
  request.set_model("second");
  ASSERT_TRUE(Generate(request).ok());
  v1::UnloadModelRequest unload;
  unload.set_name("second");
  ASSERT_TRUE(client_->UnloadModel(unload).ok());
  StartPrometheus();
  EXPECT_TRUE(WaitFor(tokens + "%7Bmodel='tiny'%7D", "24"))
      << prometheus_->err();
  EXPECT_EQ(Query("last_over_time(" + tokens + "%7Bmodel='second'%7D%5B1h%5D)"),
            "4");
  // What it had read before, it still has.
  EXPECT_EQ(Query("min_over_time(" + tokens + "%7Bmodel='tiny'%7D%5B1h%5D)"),
            "8");
}

TEST_F(PrometheusTest, ReadsNoMoreAfterManyModelsHaveComeAndGone) {
  Start();
  const auto names = [&] {
    std::set<std::string> names;  // of all series
    const std::string page = testing::HttpGet(metrics_, "/metrics");
    for (const absl::string_view line : absl::StrSplit(page, '\n')) {
      names.emplace(line.substr(0, line.rfind(' ')));
    }
    return names;
  };
  v1::LoadModelRequest load;
  load.set_path(testing::kTinyModel);
  v1::UnloadModelRequest unload;
  const auto load_and_unload = [&](const std::string& name) {
    load.set_name(name);
    unload.set_name(name);
    ASSERT_TRUE(client_->LoadModel(load).ok());
    ASSERT_TRUE(client_->UnloadModel(unload).ok());
  };
  load_and_unload("first");
  // The histograms of these calls begin, shortly after their answers.
  for (const char* rpc : {"LoadModel", "UnloadModel"}) {
    EXPECT_TRUE(WaitUntil([&] {
      return names().contains(absl::StrCat(
          "ounce_rpc_duration_seconds_count{rpc=\"ounce.v1.ModelAdmin/", rpc,
          "\"}"));
    }));
  }
  const std::set<std::string> before = names();
  for (int i = 0; i < 10; ++i) load_and_unload(absl::StrCat("model", i));
  EXPECT_GT(names().size(), before.size());
  EXPECT_EQ(names(), before);
}

TEST_F(PrometheusTest, ThreadsAreNamedForWhatTheyDo) {
  Start({"--model", absl::StrCat("tiny=", testing::kTinyModel), "--model",
         "shapes=" OUNCE_SOURCE_ROOT "/embedded/detr-tiny"});
  const auto names = [&] {
    std::set<std::string> names;
    for (const auto& task : std::filesystem::directory_iterator(
             absl::StrCat("/proc/", server_->pid(), "/task"))) {
      std::ifstream in(task.path() / "comm");
      std::string name;
      std::getline(in, name);
      names.insert(name);
    }
    return names;
  };
  // The last load's thread may be about to end, and one that is new has its
  // name when it first runs.
  EXPECT_TRUE(WaitUntil([&] { return !names().contains("ounce-loader"); }));
  const auto all = IsSupersetOf(
      {"ounce-generate", "ounce-detect", "ounce-metrics", "ounce-net"});
  EXPECT_TRUE(WaitUntil([&] { return ::testing::Value(names(), all); }));
  EXPECT_THAT(names(), all);
}

TEST_F(PrometheusTest, TellsItsLoadInOneValueEach) {
  Start({"--model", absl::StrCat("tiny=", LongModel()), "--model",
         absl::StrCat("other=", testing::kTinyModel)});
  EXPECT_THAT(testing::HttpGet(metrics_, "/metrics"),
              AllOf(HasSubstr("\nounce_server_requests_queued 0\n"),
                    HasSubstr("\nounce_server_requests_running 0\n"),
                    HasSubstr("\nounce_server_kv_cache_usage_ratio 0\n")));
  bool told = false;
  const absl::Status status = client_->Generate(
      Request("def f():\n", 4000), [&](const v1::GenerateResponse&) {
        told = true;
        EXPECT_EQ(Metric("ounce_server_requests_running"), 1);
        EXPECT_TRUE(WaitUntil(
            [&] { return Metric("ounce_server_kv_cache_usage_ratio") > 0; }));
        EXPECT_LT(Metric("ounce_server_kv_cache_usage_ratio"), 1);
        return false;
      });
  EXPECT_TRUE(told) << status;
}

TEST_F(PrometheusTest, AsksForReadinessAsHealthTellsIt) {
  Start();
  EXPECT_EQ(testing::HttpGet(metrics_, "/readyz"), "ready\n");
  EXPECT_EQ(testing::HttpGet(metrics_, "/healthz"), "alive\n");
  bool told = false;
  bool draining = false;
  const absl::Status status = client_->Generate(
      Request("def f():\n", 480), [&](const v1::GenerateResponse&) {
        if (std::exchange(told, true)) return true;
        server_->Signal(SIGTERM);
        draining = WaitUntil([&] {
          return testing::HttpAsk(metrics_,
                                  testing::HttpRequest("GET", "/readyz"))
                     .find("not ready: shutting down") != std::string::npos;
        });
        EXPECT_EQ(testing::HttpGet(metrics_, "/healthz"), "alive\n");
        return true;
      });
  EXPECT_TRUE(draining) << status;
  EXPECT_EQ(server_->Wait(absl::Minutes(1)), 0) << server_->err();
}

}  // namespace
}  // namespace ounce
