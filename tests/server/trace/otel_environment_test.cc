#include "server/trace/otel_environment.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

absl::StatusOr<OtelEnvironment> Read(
    const std::map<std::string, std::string>& variables,
    const std::string& endpoint = "") {
  return ReadOtelEnvironment(
      [&](const char* name) -> const char* {
        const auto found = variables.find(name);
        return found == variables.end() ? nullptr : found->second.c_str();
      },
      endpoint);
}

TEST(OtelEnvironmentTest, SaysNothingWhereNothingIsSet) {
  ASSERT_OK_AND_ASSIGN(const OtelEnvironment none,
                       Read({{"OTEL_EXPORTER_OTLP_ENDPOINT", ""}}));
  EXPECT_EQ(none.url, "");
  EXPECT_THAT(none.headers, IsEmpty());
  EXPECT_EQ(none.ca_file, "");
  EXPECT_THAT(none.resource, IsEmpty());
}

TEST(OtelEnvironmentTest, AnEndpointThatIsGivenGoesBeforeTheEnvironments) {
  ASSERT_OK_AND_ASSIGN(const OtelEnvironment environment,
                       Read({{"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"},
                             {"OTEL_EXPORTER_OTLP_HEADERS", "x=1"},
                             {"OTEL_SDK_DISABLED", "true"}},
                            "http://given:4318"));
  EXPECT_EQ(environment.url, "http://given:4318/v1/traces");
  EXPECT_THAT(environment.headers, ElementsAre(Pair("x", "1")));
  EXPECT_THAT(environment.resource, ElementsAre(Pair("service.name", "ounce")));
}

TEST(OtelEnvironmentTest, WhatIsWrongStopsNobodyWhoTracesNothing) {
  const std::map<std::string, std::string> wrong = {
      {"OTEL_EXPORTER_OTLP_HEADERS", "secret"},
      {"OTEL_RESOURCE_ATTRIBUTES", "team"}};
  ASSERT_OK_AND_ASSIGN(OtelEnvironment none, Read(wrong));
  EXPECT_EQ(none.url, "");
  std::map<std::string, std::string> off = wrong;
  off["OTEL_EXPORTER_OTLP_ENDPOINT"] = "collector:4317";
  off["OTEL_SDK_DISABLED"] = "true";
  ASSERT_OK_AND_ASSIGN(none, Read(off));
  EXPECT_EQ(none.url, "");
}

TEST(OtelEnvironmentTest, WhatIsOfTracesGoesBeforeWhatIsOfAll) {
  ASSERT_OK_AND_ASSIGN(
      OtelEnvironment environment,
      Read({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"},
            {"OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b%2Cc, y=1"},
            {"OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"}}));
  EXPECT_EQ(environment.url, "http://collector:4318/v1/traces");
  EXPECT_THAT(environment.headers,
              ElementsAre(Pair("x-key", "a b,c"), Pair("y", "1")));
  EXPECT_EQ(environment.ca_file, "/ca.pem");
  ASSERT_OK_AND_ASSIGN(
      environment,
      Read({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"},
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://other/path"},
            {"OTEL_EXPORTER_OTLP_HEADERS", "x=1"},
            {"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x=2"},
            {"OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"},
            {"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/traces.pem"}}));
  EXPECT_EQ(environment.url, "https://other/path");
  EXPECT_THAT(environment.headers, ElementsAre(Pair("x", "2")));
  EXPECT_EQ(environment.ca_file, "/traces.pem");
}

TEST(OtelEnvironmentTest, ServiceNameGoesBeforeTheResourcesOwn) {
  ASSERT_OK_AND_ASSIGN(
      const OtelEnvironment environment,
      Read({{"OTEL_SERVICE_NAME", "code"},
            {"OTEL_RESOURCE_ATTRIBUTES",
             "service.name=other,deployment.environment.name=a%3Db"}},
           "http://collector:4318"));
  EXPECT_THAT(environment.resource,
              ElementsAre(Pair("service.name", "code"),
                          Pair("deployment.environment.name", "a=b")));
}

TEST(OtelEnvironmentTest, TracesCanBeTurnedOff) {
  for (const auto& off : {std::pair("OTEL_SDK_DISABLED", "True"),
                          {"OTEL_TRACES_EXPORTER", "none"}}) {
    ASSERT_OK_AND_ASSIGN(
        const OtelEnvironment environment,
        Read({off, {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"}}));
    EXPECT_EQ(environment.url, "") << off.first;
  }
}

TEST(OtelEnvironmentTest, NamesTheVariableThatIsWrongAndNoSecret) {
  for (const auto& [name, value] :
       {std::pair("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://collector"},
        {"OTEL_EXPORTER_OTLP_HEADERS", "secret"},
        {"OTEL_EXPORTER_OTLP_HEADERS", "a=secret%2"},
        {"OTEL_EXPORTER_OTLP_HEADERS", "a b=secret"},
        {"OTEL_EXPORTER_OTLP_HEADERS", "a=secret%0aX: y"},
        {"OTEL_RESOURCE_ATTRIBUTES", "=secret"},
        {"OTEL_RESOURCE_ATTRIBUTES", "team"}}) {
    std::map<std::string, std::string> variables = {
        {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"}};
    variables[name] = value;
    const absl::Status status = Read(variables).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << value;
    EXPECT_THAT(
        std::string(status.message()),
        AllOf(StartsWith(std::string(name) + ": "), Not(HasSubstr("secret"))));
  }
}

TEST(OtelEnvironmentTest, TakesUrlsOfHttpWithoutPasswords) {
  for (const char* good : {"http://localhost:4318", "https://collector",
                           "http://[::1]:4318/otlp/"}) {
    EXPECT_OK(CheckEndpoint(good)) << good;
  }
  for (const char* bad :
       {"", "localhost:4318", "http://", "http://:4318", "grpc://a:1",
        "http://a b", "http://a/?x=1", "http://a#b", "https://user:pw@a"}) {
    EXPECT_FALSE(CheckEndpoint(bad).ok()) << bad;
  }
  EXPECT_EQ(TracesUrl("http://a:1/otlp/"), "http://a:1/otlp/v1/traces");
}

}  // namespace
}  // namespace ounce::server
