#include "server/service/request_log.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/service/call_record.h"
#include "tests/testing/fake_clock.h"

namespace ounce::server {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr char kGenerate[] = "ounce.v1.Inference/Generate";
constexpr char kPeer[] = "192.0.2.7";

class RequestLogTest : public ::testing::Test {
 protected:
  RequestLog MakeLog(RequestLogMode mode) {
    return RequestLog(
        {.mode = mode,
         .write = [this](const std::string& line) { lines_.push_back(line); }},
        clock_);
  }
  static RequestLog::End EndWith(const std::string& code) {
    return {.code = code, .reason = "", .total = absl::Microseconds(12'345)};
  }

  testing::FakeClock clock_;
  std::vector<std::string> lines_;
};

TEST_F(RequestLogTest, SaysWhatIsKnownInOrderAndNothingElse) {
  RequestLog log = MakeLog(RequestLogMode::kAll);
  CallRecord record("id-1", kGenerate, kPeer);
  log.Write(record, EndWith("OK"));
  record.Add([](CallFacts& facts) {
    facts.model = "co\nde";
    facts.version = 3;
    facts.queued = absl::Milliseconds(2);
    facts.first_token = absl::Microseconds(7'500);
    facts.tokens_in = 25;
    facts.tokens_cached = 16;
    facts.tokens_out = 0;
  });
  RequestLog::End end = EndWith("RESOURCE_EXHAUSTED");
  end.reason = "QUEUE_FULL";
  log.Write(record, end);
  EXPECT_THAT(
      lines_,
      ElementsAre(R"({"request_id":"id-1","method":"ounce.v1.Inference/)"
                  R"(Generate","peer":"192.0.2.7","code":"OK",)"
                  R"("total_ms":12.345})",
                  R"({"request_id":"id-1","method":"ounce.v1.Inference/)"
                  R"(Generate","model":"co\nde","version":3,)"
                  R"("peer":"192.0.2.7","code":"RESOURCE_EXHAUSTED",)"
                  R"("reason":"QUEUE_FULL","queued_ms":2.0,)"
                  R"("first_token_ms":7.5,"total_ms":12.345,"tokens_in":25,)"
                  R"("tokens_cached":16,"tokens_out":0})"));
}

TEST_F(RequestLogTest, NamesTheTraceThatARequestBelongsTo) {
  RequestLog log = MakeLog(RequestLogMode::kAll);
  log.Write(
      CallRecord("id", kGenerate, kPeer, TraceContext{.trace = {1, 0xab}}),
      EndWith("OK"));
  EXPECT_EQ(nlohmann::json::parse(lines_.at(0))["trace_id"],
            "000000000000000100000000000000ab");
}

TEST_F(RequestLogTest, HasTheRequestsThatItsModeIsAbout) {
  const CallRecord record("id", kGenerate, kPeer);
  const CallRecord health("id", "grpc.health.v1.Health/Check", kPeer);
  for (const auto& [mode, lines] : {std::pair(RequestLogMode::kOff, 0),
                                    {RequestLogMode::kErrors, 1},
                                    {RequestLogMode::kAll, 3}}) {
    lines_.clear();
    RequestLog log = MakeLog(mode);
    log.Write(record, EndWith("OK"));
    log.Write(record, EndWith("CANCELLED"));
    log.Write(record, EndWith("NOT_FOUND"));
    log.Write(health, EndWith("NOT_FOUND"));
    EXPECT_THAT(lines_, SizeIs(lines));
  }
}

TEST_F(RequestLogTest, LeavesOutWhatComesTooFastAndSaysHowMuch) {
  RequestLog log = MakeLog(RequestLogMode::kAll);
  const CallRecord record("id", kGenerate, kPeer);
  for (int i = 0; i < 2'500; ++i) log.Write(record, EndWith("OK"));
  EXPECT_THAT(lines_, SizeIs(2'000));
  clock_.Advance(absl::Seconds(1));
  log.Write(record, EndWith("OK"));
  log.Write(record, EndWith("OK"));
  EXPECT_THAT(lines_, SizeIs(2'002));
  EXPECT_EQ(nlohmann::json::parse(lines_[2'000])["left_out"], 500);
  EXPECT_FALSE(nlohmann::json::parse(lines_[2'001]).contains("left_out"));
}

}  // namespace
}  // namespace ounce::server
