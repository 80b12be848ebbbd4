// What a browser, or whoever else asks the metrics port, sees of a real server:
// the page and /status.json.
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "tests/e2e/serving.h"

namespace ounce {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class StatusTest : public testing::ServingTest {
 protected:
  // The status once `ready` says that it is as it should be: it may be half a
  // second old.
  json StatusWhen(const std::function<bool(const json&)>& ready) {
    json status;
    EXPECT_TRUE(WaitUntil([&] {
      text_ = testing::HttpGet(metrics_, "/status.json");
      status = json::parse(text_, nullptr, false);
      return status.is_object() && ready(status);
    })) << status.dump(2);
    return status;
  }
  json Model(const std::string& name,
             const std::function<bool(const json&)>& ready) {
    const auto find = [&](const json& status) -> json {
      for (const json& model : status["models"]) {
        if (model["name"] == name) return model;
      }
      return nullptr;
    };
    return find(StatusWhen([&](const json& status) {
      const json model = find(status);
      return model.is_object() && model.contains("version") && ready(model);
    }));
  }

  std::string text_;  // the last one
};

TEST_F(StatusTest, TellsWhatAQuantizationDid) {
  Start({"--model", absl::StrCat("tiny=", testing::kTinyModel), "--model",
         "shapes=" OUNCE_SOURCE_ROOT "/embedded/detr-tiny"});
  ASSERT_TRUE(Generate(Request("secret prompt ", 8)).ok());
  const auto answered = [](const json& model) {
    return model["generated_tokens_total"] == 8 &&
           model["requests_total"]["length"] == 1;
  };
  const json before = Model("tiny", answered);
  const v1::Model served = ServingTest::Model("tiny");
  EXPECT_EQ(before["state"], "ready");
  EXPECT_EQ(before["tasks"], json::array({"generate"}));
  EXPECT_EQ(before["version"], 1);
  EXPECT_EQ(before["method"], "float16");
  EXPECT_EQ(before["checkpoint_bytes"], served.checkpoint_bytes());
  EXPECT_EQ(before["stored_bytes"], served.stored_bytes());
  EXPECT_EQ(before["resident_bytes"], served.resident_bytes());
  EXPECT_EQ(before["saved_bytes"], 0);
  EXPECT_EQ(before["queued"], 0);
  EXPECT_EQ(before["quality"], nullptr);
  EXPECT_EQ(before["report"], nullptr);
  EXPECT_EQ(before["way_back"], nullptr);
  ASSERT_EQ(before["versions"].size(), 1u);
  EXPECT_EQ(before["versions"][0]["plan"], served.plan());

  v1::QuantizeRequest request = ToInt8();
  request.set_probe(true);
  const absl::StatusOr<v1::QuantizeReport> report = Quantize(request);
  ASSERT_TRUE(report.ok()) << report.status();
  const json after = Model("tiny", [](const json& model) {
    return model["version"] == 2 && model["state"] == "ready" &&
           !model["report"].is_null();
  });
  EXPECT_EQ(after["method"], "linear");
  EXPECT_EQ(after["stored_bytes"], report->stored_bytes_after());
  EXPECT_EQ(after["saved_bytes"],
            report->checkpoint_bytes() - report->stored_bytes_after());
  EXPECT_DOUBLE_EQ(after["quality"]["perplexity"],
                   report->quality().perplexity());
  EXPECT_EQ(after["way_back"],
            json({{"version", 1}, {"plan", before["plan"]}}));
  ASSERT_EQ(after["versions"].size(), 2u);
  EXPECT_EQ(after["versions"][0]["version"], 1);
  EXPECT_EQ(after["versions"][0]["method"], "float16");
  EXPECT_EQ(after["versions"][0]["stored_bytes"], before["stored_bytes"]);
  EXPECT_LT(after["versions"][0]["since"], after["versions"][1]["since"]);
  EXPECT_EQ(after["versions"][1]["plan"], "linear");
  EXPECT_EQ(after["versions"][1]["quality"], after["quality"]);

  const json& told = after["report"];
  EXPECT_EQ(told["outcome"], "serves");
  EXPECT_EQ(told["version"], 2);
  EXPECT_EQ(told["method_before"], "float16");
  EXPECT_EQ(told["stored_bytes_before"], report->stored_bytes_before());
  EXPECT_EQ(told["resident_bytes_after"], report->resident_bytes_after());
  EXPECT_EQ(told["layers_left_out"], 0);
  size_t i = 0;
  for (const v1::TensorReport& tensor : report->tensors()) {
    if (!tensor.has_relative_l2_error()) continue;
    ASSERT_LT(i, told["layers"].size());
    const json& layer = told["layers"][i++];
    EXPECT_EQ(layer["name"], tensor.name());
    EXPECT_EQ(layer["kind"], "linear");
    EXPECT_DOUBLE_EQ(layer["relative_l2_error"], tensor.relative_l2_error());
    EXPECT_DOUBLE_EQ(layer["relative_l2_output_error"],
                     tensor.relative_l2_output_error());
    EXPECT_EQ(layer["bytes_after"], tensor.bytes_after());
  }
  EXPECT_EQ(told["layers"].size(), i);
  EXPECT_GT(i, 0u);

  // Neither where models are nor what was asked.
  EXPECT_THAT(text_,
              AllOf(Not(HasSubstr("embedded/")), Not(HasSubstr("secret"))));
  const json status = json::parse(text_);
  EXPECT_EQ(status["schema"], 1);
  EXPECT_EQ(status["server"]["phase"], "serving");
  EXPECT_EQ(status["server"]["not_ready"], json::array());
  EXPECT_EQ(status["models"].size(), 2u);
  EXPECT_EQ(status["models"][0]["tasks"], json::array({"detect_objects"}));
  EXPECT_GT(status["memory"]["resident_bytes"], 0);
  EXPECT_GT(status["memory"]["limit_bytes"],
            status["memory"]["bytes"]["weights"]);
}

TEST_F(StatusTest, TellsOfAServerWithoutModelsAndOfOneThatComes) {
  Start({});
  EXPECT_EQ(StatusWhen([](const json&) { return true; })["models"],
            json::array());
  v1::LoadModelRequest load;
  load.set_name("tiny");
  load.set_path(testing::kTinyModel);
  load.set_method("linear");
  ASSERT_TRUE(client_->LoadModel(load).ok());
  const json model = Model("tiny", [](const json&) { return true; });
  EXPECT_EQ(model["plan"], "linear");
  EXPECT_EQ(model["versions"].size(), 1u);
  EXPECT_EQ(model["way_back"], nullptr);
  EXPECT_EQ(model["report"], nullptr);
  v1::UnloadModelRequest unload;
  unload.set_name("tiny");
  ASSERT_TRUE(client_->UnloadModel(unload).ok());
  StatusWhen([](const json& status) { return status["models"].empty(); });
}

TEST_F(StatusTest, ServesThePageWithItsPolicy) {
  Start();
  const auto ask = [&](const char* verb, const char* path) {
    return testing::HttpAsk(metrics_, testing::HttpRequest(verb, path));
  };
  for (const char* path :
       {"/", "/page.js", "/page.css", "/icon.svg", "/status.json"}) {
    SCOPED_TRACE(path);
    const auto policy =
        AllOf(HasSubstr("Content-Security-Policy: default-src 'none'; "),
              HasSubstr("X-Content-Type-Options: nosniff\r\n"),
              HasSubstr("Cache-Control: no-store\r\n"));
    EXPECT_THAT(ask("GET", path), AllOf(StartsWith("HTTP/1.1 200 "), policy));
    EXPECT_THAT(ask("HEAD", path), AllOf(StartsWith("HTTP/1.1 200 "), policy,
                                         EndsWith("\r\n\r\n")));
    for (const char* verb : {"POST", "PUT", "DELETE", "OPTIONS"}) {
      EXPECT_THAT(ask(verb, path), AllOf(StartsWith("HTTP/1.1 405 "), policy,
                                         HasSubstr("Allow: GET, HEAD\r\n")));
    }
  }
  for (const char* path : {"/page", "/page.js/", "/../README.md", "/status",
                           "//", "/index.html"}) {
    EXPECT_THAT(ask("GET", path), StartsWith("HTTP/1.1 404 ")) << path;
  }
}

// A page from elsewhere may have its name lead to loopback.
TEST_F(StatusTest, OnLoopbackAnswersByNoNameButThoseThatAreSet) {
  const auto ask = [&](const char* host) {
    return testing::HttpAsk(
        metrics_, absl::StrCat("GET /status.json HTTP/1.1\r\nHost: ", host,
                               ":8502\r\nConnection: close\r\n\r\n"));
  };
  Start({});
  EXPECT_THAT(ask("127.0.0.1"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(ask("localhost"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(ask("rebound.example"), StartsWith("HTTP/1.1 421 "));
  Stop();
  Start({"--metrics_hosts", "ounce.example"});
  EXPECT_THAT(ask("ounce.example"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(ask("rebound.example"), StartsWith("HTTP/1.1 421 "));
  Stop();
  Start({"--metrics_hosts", "*"});
  EXPECT_THAT(ask("rebound.example"), StartsWith("HTTP/1.1 200 "));
  Stop();
  // Others ask by a Service's name, which nobody here knows.
  server_ = std::make_unique<testing::Process>(std::vector<std::string>{
      OUNCE_SERVER_BINARY, "--listen", "127.0.0.1:0", "--admin_listen",
      "127.0.0.1:0", "--metrics_listen", "0.0.0.0:0", "--ports_file",
      folder_.Path("ports")});
  ASSERT_TRUE(WaitUntil(
      [&] { return !testing::ReadFile(folder_.Path("ports")).empty(); }));
  const std::string bound =
      json::parse(testing::ReadFile(folder_.Path("ports")))["metrics"];
  metrics_ = absl::StrCat("127.0.0.1", bound.substr(bound.rfind(':')));
  EXPECT_THAT(ask("ounce-metrics"), StartsWith("HTTP/1.1 200 "));
}

}  // namespace
}  // namespace ounce
