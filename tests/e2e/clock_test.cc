// The server while somebody sets the system's clock.

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>

#include "gtest/gtest.h"
#include "tests/e2e/serving.h"
#include "tests/testing/wall_clock.h"

namespace ounce::testing {
namespace {

class ClockTest : public ServingTest {
 protected:
  ClockTest() {
    Set(absl::ZeroDuration());
    setenv(kWallClockFile, file_.c_str(), 1);
    PreloadForServers(OUNCE_WALL_CLOCK_LIBRARY);
    Start();
    unsetenv("LD_PRELOAD");
  }

  // The server's wall clock is that far from the system's.
  void Set(absl::Duration offset) {
    const int64_t nanoseconds = absl::ToInt64Nanoseconds(offset);
    std::fstream file(file_, std::ios::in | std::ios::out | std::ios::binary);
    if (!file) file.open(file_, std::ios::out | std::ios::binary);
    file.write(reinterpret_cast<const char*>(&nanoseconds),
               sizeof(nanoseconds));
  }

  // No less than zero and no more than a test takes.
  void ExpectPlausible(double seconds) {
    EXPECT_GE(seconds, 0);
    EXPECT_LE(seconds, 600);
  }

  const std::string file_ = folder_.Path("wall_clock");
};

TEST_F(ClockTest, StepsEndNoDeadlineAndNoDurationIsNegative) {
  for (const absl::Duration step : {absl::Hours(1), -absl::Hours(2)}) {
    const auto client = client::Client::Create(
        {.server = inference_, .admin = admin_, .timeout = absl::Minutes(5)});
    v1::GenerateResponse last;
    bool stepped = false;
    const absl::Status status = client->Generate(
        Request("import os", 400), [&](const v1::GenerateResponse& message) {
          if (!stepped) Set(step);
          stepped = true;
          last = message;
          return true;
        });
    EXPECT_TRUE(status.ok()) << status;
    ASSERT_TRUE(last.has_usage());
    EXPECT_EQ(last.usage().new_tokens(), 400);
    ExpectPlausible(last.usage().queue_seconds());
    ExpectPlausible(last.usage().time_to_first_token_seconds());
    ExpectPlausible(last.usage().total_seconds());
  }
  bool stepped = false;
  const auto report =
      Quantize(ToInt8(), [&](const v1::QuantizeProgress& /*progress*/) {
        if (!stepped) Set(absl::Hours(5));
        stepped = true;
        return true;
      });
  ASSERT_TRUE(report.ok()) << report.status();
  ExpectPlausible(report->seconds());
  ExpectPlausible(Metric("ounce_request_duration_seconds_sum"));
  ExpectPlausible(Metric("ounce_time_to_first_token_seconds_sum"));
  ExpectPlausible(Metric("ounce_time_per_output_token_seconds_sum"));
  ExpectPlausible(Metric("ounce_quantization_seconds_sum"));
}

// HTTP/2, as far as one call takes it.
std::string Frame(char type, char flags, char stream,
                  const std::string& payload) {
  const size_t size = payload.size();
  return std::string{static_cast<char>(size >> 16),
                     static_cast<char>(size >> 8),
                     static_cast<char>(size),
                     type,
                     flags,
                     0,
                     0,
                     0,
                     stream} +
         payload;
}
std::string Literal(const std::string& text) {
  return static_cast<char>(text.size()) + text;
}

TEST_F(ClockTest, ADeadlineOfThreeHundredYearsIsNotNow) {
  const std::string request = Request("import os", 3).SerializeAsString();
  const std::string call =
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, "") +
      Frame(1, 4, 1,
            // POST, http, then headers that no table knows.
            std::string("\x83\x86") + '\x04' +
                Literal("/ounce.v1.Inference/Generate") + '\x01' +
                Literal("localhost") + "\x0f\x10" +
                Literal("application/grpc") + '\0' + Literal("te") +
                Literal("trailers") + '\0' + Literal("grpc-timeout") +
                Literal("2562047H")) +
      Frame(0, 1, 1,
            std::string(4, '\0') + static_cast<char>(request.size()) + request);
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_TRUE(ConnectTo(connection, inference_));
  ASSERT_EQ(send(connection, call.data(), call.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(call.size()));
  EXPECT_TRUE(WaitUntil([&] {
    return Metric("ounce_requests_total", {"outcome=\"length\""}) == 1;
  })) << HttpGet(metrics_, "/metrics");
  close(connection);
  EXPECT_EQ(Metric("ounce_requests_total", {"outcome=\"deadline_exceeded\""}),
            0);
}

}  // namespace
}  // namespace ounce::testing
