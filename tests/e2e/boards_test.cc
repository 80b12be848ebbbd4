// A real Prometheus, as deploy/prometheus configures it, watches a real server
// under load; what boards and rules ask it has answers.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "tests/e2e/serving.h"

namespace ounce {
namespace {

using nlohmann::json;
using ::testing::IsEmpty;

constexpr char kBoards[] = OUNCE_SOURCE_ROOT "/deploy/grafana/dashboards";
constexpr char kPrometheus[] = OUNCE_SOURCE_ROOT "/deploy/prometheus/";
constexpr char kExamples[] = OUNCE_SOURCE_ROOT "/embedded/detr-tiny/examples/";

// Panels that may have no data while nothing is wrong, and why.
const std::map<std::string, std::string>& MayBeEmpty() {
  static const auto* const kPanels = new std::map<std::string, std::string>{
      {"Alerts that fire", "no alert fires"},
      {"Stage of the quantization that runs",
       "a quantization may run between two scrapes"},
      {"Until the certificate ends", "the server here speaks no TLS"},
  };
  return *kPanels;
}

std::string Encoded(const std::string& text) {
  std::string encoded;
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c))) {
      encoded += c;
    } else {
      absl::StrAppend(
          &encoded, "%",
          absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    }
  }
  return encoded;
}

struct Query {
  std::string from;  // "memory.json: Saved"
  std::string panel;
  std::string expression;  // Grafana's variables replaced
};

// What a board asks Prometheus: panels, variables and annotations. Variables
// that one chooses the value of stand for each in turn; no expression has two.
std::vector<Query> QueriesOf(const std::string& path) {
  const json board = json::parse(testing::ReadFile(path));
  std::map<std::string, std::string> variables = {{"$__rate_interval", "1m"},
                                                  {"$__range", "1h"}};
  std::map<std::string, json> choices;
  for (const json& variable : board["templating"]["list"]) {
    const std::string name = absl::StrCat("$", std::string(variable["name"]));
    if (variable["type"] == "custom") {
      choices[name] = variable["options"];
    } else {
      variables[name] = ".*";
    }
  }
  std::vector<Query> queries;
  const auto add = [&](const std::string& panel, const std::string& with) {
    std::vector<std::string> expressions = {
        absl::StrReplaceAll(with, variables)};
    for (const auto& [name, options] : choices) {
      if (!absl::StrContains(with, name)) continue;
      const std::string open = std::exchange(expressions, {}).front();
      for (const json& option : options) {
        expressions.push_back(
            absl::StrReplaceAll(open, {{name, std::string(option["value"])}}));
      }
    }
    for (const std::string& expression : expressions) {
      queries.push_back(
          {absl::StrCat(path.substr(path.rfind('/') + 1), ": ", panel), panel,
           expression});
    }
  };
  for (const json& variable : board["templating"]["list"]) {
    if (variable["type"] != "query") continue;
    const std::string query = variable["query"];  // label_values(SERIES, label)
    const size_t start = query.find('(') + 1;
    add(absl::StrCat("variable ", std::string(variable["name"])),
        query.substr(start, query.rfind(',') - start));
  }
  const json annotations = board["annotations"].value("list", json::array());
  for (const json& annotation : annotations) {
    add(annotation["name"], annotation["expr"]);
  }
  for (const json& panel : board["panels"]) {
    if (panel["type"] == "row") continue;
    EXPECT_FALSE(panel["targets"].empty()) << panel["title"];
    for (const json& target : panel["targets"]) {
      add(panel["title"], target["expr"]);
    }
  }
  return queries;
}

class BoardsTest : public testing::ServingTest {
 protected:
  void SetUp() override {
    if (std::system("prometheus --version >/dev/null 2>&1") != 0) {
      GTEST_SKIP() << "prometheus is not installed";
    }
    prometheus_ = absl::StrCat("127.0.0.1:", FreePort());
    // Which is no collector of traces, and says so: spans are lost.
    Start({"--model", absl::StrCat("tiny=", testing::kTinyModel), "--model",
           "shapes=" OUNCE_SOURCE_ROOT "/embedded/detr-tiny", "--otlp_endpoint",
           absl::StrCat("http://", prometheus_)});
  }

  void StartPrometheus() {
    folder_.WriteFile("rules.yaml", testing::ReadFile(absl::StrCat(
                                        kPrometheus, "rules.yaml")));
    folder_.WriteFile(
        "prometheus.yaml",
        absl::StrReplaceAll(
            testing::ReadFile(absl::StrCat(kPrometheus, "prometheus.yaml")),
            {{"ounce:8502", metrics_}, {"15s", "1s"}}));
    start_ = absl::Now();
    LaunchPrometheus();
    ASSERT_TRUE(WaitUntil([&] { return HasData("ounce_model_info"); }))
        << process_->err();
  }
  // With the data that one before has left.
  void LaunchPrometheus() {
    process_ = std::make_unique<testing::Process>(std::vector<std::string>{
        "prometheus",
        absl::StrCat("--config.file=", folder_.Path("prometheus.yaml")),
        absl::StrCat("--storage.tsdb.path=", folder_.Path("data")),
        absl::StrCat("--web.listen-address=", prometheus_)});
  }

  // The field `data` of an answer of its API. As HTTP/1.0: in one piece.
  json Ask(const std::string& path) {
    const std::string answer = testing::HttpAsk(
        prometheus_, absl::StrCat("GET /api/v1/", path, " HTTP/1.0\r\n\r\n"));
    const size_t end = answer.find("\r\n\r\n");
    if (end == std::string::npos) return json();
    const json body = json::parse(answer.substr(end), nullptr,
                                  /*allow_exceptions=*/false);
    return body.is_object() && body.contains("data") ? body["data"] : json();
  }
  // From the start until a minute from now, when a swap of now is one of the
  // minute before. Null when it is no query.
  json Values(const std::string& expression) {
    const auto seconds = [](absl::Time time) {
      return absl::ToUnixSeconds(time);
    };
    return Ask(absl::StrCat("query_range?step=1&start=", seconds(start_),
                            "&end=", seconds(absl::Now() + absl::Seconds(59)),
                            "&query=", Encoded(expression)));
  }
  bool HasData(const std::string& expression) {
    const json data = Values(expression);
    if (!data.is_object()) return false;
    for (const json& series : data["result"]) {
      for (const json& value : series["values"]) {
        if (value[1] != "NaN") return true;
      }
    }
    return false;
  }

  // Text and pictures, asked for rightly and wrongly, and one connection that
  // does not speak HTTP/2.
  void SomeLoad() {
    ASSERT_TRUE(Generate(Request("def read(", 16)).ok());
    v1::DetectObjectsRequest picture;
    picture.set_model("shapes");
    picture.set_image(
        testing::ReadFile(absl::StrCat(kExamples, "shapes-300x300.png")));
    ASSERT_TRUE(client_->DetectObjects(picture).ok());
    picture.set_image("no picture");
    EXPECT_FALSE(client_->DetectObjects(picture).ok());
    EXPECT_TRUE(absl::IsDeadlineExceeded(
        client_->WithTimeout(absl::Milliseconds(20))
            ->Generate(Request("def read(", 500),
                       [](const v1::GenerateResponse&) { return true; })));
    testing::HttpAsk(inference_, "no HTTP/2\r\n\r\n");
  }

  std::string prometheus_;  // HOST:PORT
  std::unique_ptr<testing::Process> process_;
  absl::Time start_;
};

TEST_F(BoardsTest, HaveDataOfAServerUnderLoad) {
  ASSERT_NO_FATAL_FAILURE(StartPrometheus());
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{
           {"quantize", "tiny", "linear", "--probe"},
           {"quantize", "shapes", "linear", "--probe"},
           {"evaluate", "shapes", "--pictures", kExamples, "--annotations",
            absl::StrCat(kExamples, "annotations.json")}}) {
    const testing::Finished done = Cli(command);
    ASSERT_EQ(done.code, 0) << done.err;
  }
  std::vector<Query> empty;
  std::set<std::string> boards, panels;
  for (const auto& file : std::filesystem::directory_iterator(kBoards)) {
    boards.insert(file.path().filename());
    for (Query& query : QueriesOf(file.path())) {
      panels.insert(query.panel);
      EXPECT_FALSE(absl::StrContains(query.expression, "$"))
          << query.expression;
      EXPECT_TRUE(Values(query.expression).is_object())
          << query.from << ": Prometheus refuses " << query.expression;
      if (!MayBeEmpty().contains(query.panel)) empty.push_back(query);
    }
  }
  EXPECT_THAT(boards, ::testing::ElementsAre("detection.json", "fleet.json",
                                             "memory.json", "serving.json"));
  for (const auto& [panel, why] : MayBeEmpty()) {
    EXPECT_TRUE(panels.contains(panel)) << panel;
  }
  // Rates need two scrapes of a counter that grows.
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (!empty.empty() && absl::Now() < deadline) {
    SomeLoad();
    std::erase_if(
        empty, [&](const Query& query) { return HasData(query.expression); });
  }
  for (const Query& query : empty) {
    ADD_FAILURE() << query.from << " is empty: " << query.expression;
  }
}

TEST_F(BoardsTest, RulesAreEvaluatedAndEveryAlertSaysWhatToDo) {
  ASSERT_NO_FATAL_FAILURE(StartPrometheus());
  const std::string manual =
      testing::ReadFile(OUNCE_SOURCE_ROOT "/docs/operations.md");
  std::vector<std::string> recorded;
  const auto rules = [&] {
    std::vector<json> rules;
    const json data = Ask("rules");
    if (!data.is_object()) return rules;
    for (const json& group : data["groups"]) {
      for (const json& rule : group["rules"]) rules.push_back(rule);
    }
    return rules;
  };
  const auto evaluated = [&] {
    const std::vector<json> all = rules();
    return !all.empty() &&
           std::all_of(all.begin(), all.end(), [](const json& rule) {
             return rule["health"] != "unknown";
           });
  };
  EXPECT_TRUE(WaitUntil(evaluated)) << process_->err();
  size_t alerts = 0;
  for (const json& rule : rules()) {
    const std::string name = rule["name"];
    SCOPED_TRACE(name);
    EXPECT_EQ(rule["health"], "ok") << rule;
    if (rule["type"] == "recording") {
      recorded.push_back(name);
      continue;
    }
    ++alerts;
    EXPECT_TRUE(rule["labels"].contains("severity"));
    for (const char* annotation : {"summary", "description"}) {
      EXPECT_NE(rule["annotations"].value(annotation, ""), "") << annotation;
    }
    EXPECT_EQ(rule["annotations"].value("runbook", ""),
              absl::StrCat("docs/operations.md#", absl::AsciiStrToLower(name)));
    EXPECT_TRUE(absl::StrContains(manual, absl::StrCat("\n### ", name, "\n")));
  }
  EXPECT_GT(alerts, 0u);
  EXPECT_THAT(recorded, ::testing::Not(IsEmpty()));
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (!recorded.empty() && absl::Now() < deadline) {
    SomeLoad();
    std::erase_if(recorded, [&](const auto& name) { return HasData(name); });
  }
  EXPECT_THAT(recorded, IsEmpty());
}

TEST_F(BoardsTest, APrometheusThatIsKilledFindsAllCountsWhenItComesBack) {
  ASSERT_NO_FATAL_FAILURE(StartPrometheus());
  const auto saw = [&](int tokens) {
    return WaitUntil([&] {
      return HasData(absl::StrCat("ounce_generated_tokens_total == ", tokens));
    });
  };
  ASSERT_TRUE(Generate(Request("def ", 8)).ok());
  EXPECT_TRUE(saw(8)) << process_->err();
  process_->Signal(SIGKILL);
  EXPECT_EQ(process_->Wait(absl::Minutes(1)), 128 + SIGKILL);
  ASSERT_TRUE(Generate(Request("def ", 8)).ok());
  LaunchPrometheus();
  EXPECT_TRUE(saw(16)) << process_->err();
  EXPECT_TRUE(saw(8));  // of before
}

TEST_F(BoardsTest, PromtoolFindsNothingWrongWithTheRealMetrics) {
  SomeLoad();
  const testing::Finished checked = testing::RunToEnd(
      {"promtool", "check", "metrics"}, testing::HttpGet(metrics_, "/metrics"));
  EXPECT_EQ(checked.code, 0) << checked.err;
}

}  // namespace
}  // namespace ounce
