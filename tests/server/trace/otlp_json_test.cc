#include "server/trace/otlp_json.h"

#include <nlohmann/json.hpp>

#include "gtest/gtest.h"

namespace ounce::server {
namespace {

using Json = nlohmann::json;

// From the mapping of opentelemetry.io/docs/specs/otlp;
// tests/e2e/tracing_test.py reads what comes with OpenTelemetry's own messages.
TEST(OtlpJsonTest, WritesAWorkAndItsPhasesByTheMapping) {
  const absl::Time start = absl::FromUnixNanos(1'000'000'005);
  std::vector<Work> works(1);
  Work& work = works[0];
  work.context = {.trace = {0x4bf92f3577b34da6, 0xa3ce929d0e0e4736},
                  .span = 0xeee19b7ec3c1b174,
                  .parent = 0x00f067aa0ba902b7,
                  .sampled = true,
                  .state = "a=1"};
  work.kind = Work::Kind::kServer;
  work.name = "ounce.v1.Inference/Generate";
  work.start = start;
  work.end = start + absl::Nanoseconds(20);
  work.attributes = {
      {"rpc.grpc.status_code", int64_t{13}},
      {"gen_ai.request.temperature", 0.5},
      {"rpc.system", "grpc"},
      {"gen_ai.response.finish_reasons", std::vector<std::string>{"stop"}}};
  work.failed = true;
  work.phases = {{"queue", start, start + absl::Nanoseconds(7)}};
  uint64_t id = 0x10;
  const std::string json =
      OtlpJson({.version = "1.2", .attributes = {{"service.name", "ounce"}}},
               works, absl::Seconds(1'600'000'000), [&] { return ++id; });
  EXPECT_EQ(Json::parse(json), Json::parse(R"({"resourceSpans": [{
    "resource": {"attributes": [
      {"key": "service.name", "value": {"stringValue": "ounce"}}]},
    "scopeSpans": [{
      "scope": {"name": "ounce", "version": "1.2"},
      "spans": [{
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "spanId": "eee19b7ec3c1b174",
        "parentSpanId": "00f067aa0ba902b7",
        "traceState": "a=1",
        "name": "ounce.v1.Inference/Generate",
        "kind": 2,
        "flags": 769,
        "startTimeUnixNano": "1600000001000000005",
        "endTimeUnixNano": "1600000001000000025",
        "attributes": [
          {"key": "rpc.grpc.status_code", "value": {"intValue": "13"}},
          {"key": "gen_ai.request.temperature", "value": {"doubleValue": 0.5}},
          {"key": "rpc.system", "value": {"stringValue": "grpc"}},
          {"key": "gen_ai.response.finish_reasons", "value":
            {"arrayValue": {"values": [{"stringValue": "stop"}]}}}],
        "status": {"code": 2}
      }, {
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "spanId": "0000000000000011",
        "parentSpanId": "eee19b7ec3c1b174",
        "traceState": "a=1",
        "name": "queue",
        "kind": 1,
        "flags": 257,
        "startTimeUnixNano": "1600000001000000005",
        "endTimeUnixNano": "1600000001000000012",
        "attributes": []
      }]}]}]})"));
}

TEST(OtlpJsonTest, WhatCallersWriteIsValidUtf8) {
  std::vector<Work> works(1);
  Work& work = works[0];
  work.context = {.trace = {1, 2}, .span = 3};
  work.attributes = {{"bytes", "\xff\"\n"}};
  const Json json =
      Json::parse(OtlpJson({}, works, {}, [] { return SpanId{1}; }));
  const Json& span = json["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
  EXPECT_FALSE(span.contains("parentSpanId"));
  EXPECT_FALSE(span.contains("traceState"));
  EXPECT_FALSE(span.contains("status"));
  EXPECT_EQ(span["attributes"][0]["value"]["stringValue"], "\xef\xbf\xbd\"\n");
}

TEST(OtlpJsonTest, ReadsHowManySpansWereNotTaken) {
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess": {"rejectedSpans": "7"}})"), 7);
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess": {"rejectedSpans": 7}})"), 7);
  for (const char* none :
       {"", "{}", "[]", "7", R"({"partialSuccess": null})",
        R"({"partialSuccess": {}})", R"({"partialSuccess": []})",
        R"({"partialSuccess": {"rejectedSpans": {}}})",
        R"({"partialSuccess": {"rejectedSpans": "many"}})", "{\xff"}) {
    EXPECT_EQ(RejectedSpans(none), 0) << none;
  }
}

}  // namespace
}  // namespace ounce::server
